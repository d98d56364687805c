// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@testable import AgentMode
@testable import VPCLinux
@testable import VPCModel

/// A running pod keeps its ENI in the kernel's source map, whatever the pool's CIDRs and EC2's answers say.
@Suite(.requiresRoot) struct NodeNetworkEvidenceTests {
  private let node: NamespaceFixture
  private let network: NodeNetwork
  private let primary: ENIObservation
  private let secondary: ENIObservation
  private let subnet: IPPrefix
  private let pod: IPPrefix
  private let other: IPPrefix

  init() async throws {
    let id = try #require(SubnetID("subnet-1"))
    (pod, other) = (try #require(IPPrefix("10.0.1.50/32")), try #require(IPPrefix("10.0.1.51/32")))
    subnet = try #require(IPPrefix("10.0.1.0/24"))
    primary = ENIObservation(
      id: try #require(ENIID("eni-0")), device: 0, subnet: id, primaryAddress: IPAddress("10.0.1.4"))
    secondary = ENIObservation(
      id: try #require(ENIID("eni-1")), device: 1, subnet: id, primaryAddress: IPAddress("10.0.1.9"),
      cidrs: [pod, other])
    node = try NamespaceFixture()
    _ = try node.addLink("eth0", mac: MACAddress("0a:00:00:00:00:01"))
    _ = try node.addLink("eth1", mac: MACAddress("0a:00:00:00:00:02"))
    try node.ip("addr add 10.0.1.4/24 dev eth0")
    let settings = NetworkSettings(try Settings(environment: [:]))
    network = try node.run {
      UnsafeTransfer(value: try NodeNetwork(settings: settings, logger: LogRecorder().logger))
    }.value
    _ = try await network.begin(
      primary: try #require(MACAddress("0a:00:00:00:00:01")), try wanted([], [pod, other]))
    try await wire([pod, other])
    try node.ip("link add eni0123456789a type veth peer name pod0")
    try node.ip("link set eni0123456789a up")
    try node.ip("route add 10.0.1.50 dev eni0123456789a table 20512")
  }

  /// With these addresses on the primary and on the secondary ENI.
  private func wanted(_ first: [IPPrefix], _ second: [IPPrefix]) throws -> NodeWanted {
    var wanted = NodeWanted(settings: network.settings)
    let macs = ["0a:00:00:00:00:01", "0a:00:00:00:00:02"].map(MACAddress.init)
    for (eni, cidrs, mac) in [(primary, first, macs[0]), (secondary, second, macs[1])] {
      var seen = eni
      seen.cidrs = cidrs
      wanted.enis[eni.id] = NodeWanted.ENI(
        seen, address: eni.primaryAddress, mac: mac, subnet: subnet)
    }
    return wanted
  }

  private func wire(_ cidrs: [IPPrefix]) async throws {
    try await network.converge(to: try wanted([], cidrs), .eni(secondary.id))
  }

  /// What the kernel routes through the secondary ENI.
  private func led() async throws -> Set<IPPrefix> {
    let socket = try node.run { UnsafeTransfer(value: try NftablesSocket()) }.value
    let table = try #require(try ENIMarkTable(socket: socket).read(.ipv4))
    var found: Set<IPPrefix> = []
    for (name, map) in table.maps where name != ENIMarks.Name.enis {
      for (source, chain) in map.elements where chain == "eni-1" { found.insert(source) }
    }
    return found
  }

  @Test func whatAPodUsesStaysWhenItsENIIsWiredWithoutIt() async throws {
    try await wire([])
    #expect(try await led() == [pod], "nobody uses the other")
    try node.ip("link del eni0123456789a")
    try await wire([])
    #expect(try await led().isEmpty, "the pod is gone")
  }

  @Test func whatAPodUsesIsNotGivenToAnotherENI() async throws {
    await #expect(throws: NodeNetworkError.self) {
      try await network.converge(to: try wanted([pod, other], []), .sources(arriving: [pod, other], primary.id))
    }
    #expect(try await led() == [pod, other], "all or nothing")
    try await network.converge(to: try wanted([other], [pod]), .sources(arriving: [other], primary.id))
    #expect(try await led() == [pod])
  }

  /// The pool answered its DEL, and the host side is removed after the answer.
  @Test func whatThePoolGivesBackGoesAlthoughARouteIsStillThere() async throws {
    try await network.converge(to: try wanted([], [other]), .sources(leaving: [pod], secondary.id))
    #expect(try await led() == [other])
    try await wire([pod, other])
    var without = try wanted([], [])
    without.enis[secondary.id] = nil
    try await network.converge(to: without, .removal(secondary.id, RouteTable(2)))
    #expect(try await led().isEmpty)
    #expect(await network.kept.isEmpty)
  }

  /// Work runs concurrently: what was wanted earlier may arrive later.
  @Test func anOlderStateDoesNotReplaceANewerOne() async throws {
    var newer = try wanted([other], [pod])
    newer.generation = 2
    try await network.converge(to: newer, .sources(arriving: [other], primary.id))
    var older = try wanted([], [pod, other])
    older.generation = 1
    try await network.converge(to: older, .eni(secondary.id))
    #expect(try await led() == [pod])
  }

  /// A table and a rule are left only while their ENI is wanted, whoever detached it.
  @Test func anENIThatIsNoLongerWantedLeavesNothing() async throws {
    try node.ip("link del eni0123456789a")
    var wanted = try wanted([], [])
    wanted.enis[secondary.id] = nil
    try await network.converge(to: wanted, .removal(secondary.id, RouteTable(2)))
    let words = (try node.ip("rule show") + (try node.ip("route show table all"))).split(whereSeparator: \.isWhitespace)
    #expect(!zip(words, words.dropFirst()).contains { ["lookup", "table"].contains($0) && $1 == "2" }, "\(words)")
    #expect(try await network.faults(in: .everything).isEmpty)
  }
}

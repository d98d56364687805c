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
    let configuration = NodeNetwork.Configuration(try Settings(environment: [:]))
    network = try node.run {
      UnsafeTransfer(value: try NodeNetwork(configuration: configuration, logger: LogRecorder().logger))
    }.value
    _ = try await network.setUp(primary: try #require(MACAddress("0a:00:00:00:00:01")), enis: [primary, secondary])
    try await wire([pod, other])
    try node.ip("link add eni0123456789a type veth peer name pod0")
    try node.ip("link set eni0123456789a up")
    try node.ip("route add 10.0.1.50 dev eni0123456789a table 20512")
  }

  private func wire(_ cidrs: [IPPrefix]) async throws {
    var eni = secondary
    eni.cidrs = cidrs
    try await network.wire(eni, mac: try #require(MACAddress("0a:00:00:00:00:02")), subnet: subnet)
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
    await #expect(throws: NodeNetworkError.self) { try await network.addSources([pod, other], of: primary.id) }
    #expect(try await led() == [pod, other], "all or nothing")
    try await network.addSources([other], of: primary.id)
    #expect(try await led() == [pod])
  }
}

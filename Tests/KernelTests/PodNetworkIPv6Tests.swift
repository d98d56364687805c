// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// What ADD creates for a pod with an IPv6 address, as `ip` shows it, and that packets take it.
@Suite(.requiresRoot)
struct PodNetworkIPv6Tests {
  private static let address = "2001:db8:1:2::7"

  private static func interface(
    _ address: String = address, host: String = "eni0123456789a", pod: String = "eth0", index: Int = 0,
    table: RouteTable = .main
  ) throws -> PodInterface {
    try PodFixture.interface(address, host: host, pod: pod, index: index, table: table)
  }

  /// A node as the agent and the init container configure it for IPv6 pods.
  private static func makeNode() throws -> NamespaceFixture {
    let node = try NamespaceFixture([
      "link add ens5 type bridge", "link set ens5 up", "-6 addr add 2001:db8:1:1::10/64 dev ens5 nodad",
      "-6 rule add priority 512 lookup 20512",
    ])
    try node.run {
      _ = try Sysctl(name: "net.ipv6.conf.all.disable_ipv6").write("0")
      _ = try Sysctl(name: "net.ipv6.conf.all.forwarding").write("1")
    }
    return node
  }

  private static func hasIPv6() -> Bool { (try? Sysctl(name: "net.ipv6.conf.all.forwarding").read()) ?? nil != nil }

  @Test(.enabled(if: hasIPv6()), arguments: [false, true])
  func addMakesTheContractsState(isPrepared: Bool) throws {
    let fixture = try PodFixture(node: try Self.makeNode())
    // As container runtimes leave it.
    try fixture.pod.run { _ = try Sysctl(name: "net.ipv6.conf.all.disable_ipv6").write("1") }
    let before = try fixture.nodeState()
    let interface = try Self.interface()
    try fixture.add(PodFixture.network([interface], mtu: 8000), isPrepared: isPrepared)

    let pod = try fixture.pod.socket()
    let end = try #require(try Link.find(named: interface.podName, on: pod))
    let addresses = try InterfaceAddress.list(link: end.index, family: .ipv6, on: pod)
    let own = try #require(addresses.first { $0.address == interface.address })
    #expect(own.prefixLength == 128 && !own.isTentative, "usable at once")
    let host = try #require(try Link.find(named: interface.hostName, on: try fixture.node.socket()))
    let mac = try #require(host.mac)
    let routes = try fixture.pod.ip("-6 route show")
    #expect(routes.contains("default via fe80::1 dev eth0") && routes.contains("\nfe80::1 dev eth0"), "\(routes)")
    #expect(try fixture.pod.ip("-6 neigh show nud permanent") == "fe80::1 dev eth0 lladdr \(mac) PERMANENT \n")
    #expect(try fixture.node.ip("-6 route show table 20512").contains("\(Self.address) dev eni0123456789a"))
    #expect(try !fixture.node.ip("-6 route show table main").contains("eni0123456789a"), "no route for each pod")
    let settings = try fixture.node.run {
      try ["accept_ra", "accept_redirects", "forwarding"].map {
        try Sysctl("net", "ipv6", "conf", "eni0123456789a", $0).read()
      }
    }
    #expect(settings == ["0", "1", "0"])
    try fixture.check(interface)
    #expect(try fixture.remove(Self.address) == .removed)
    #expect(try fixture.nodeState() == before)
    #expect(try fixture.remove(Self.address) == .alreadyGone)
  }

  @Test(.enabled(if: hasIPv6()), .requires(program: "ping")) func podsAndNodeTalk() throws {
    let first = try PodFixture(node: try Self.makeNode())
    let second = try PodFixture(node: first.node)
    let other = "2001:db8:1:2::8"
    try first.add(PodFixture.network([try Self.interface(host: "eni00000000001")]))
    try second.add(PodFixture.network([try Self.interface(other, host: "eni00000000002")]))
    try first.ping(other)
    try second.ping(Self.address)
    try first.ping("2001:db8:1:1::10")
    // The node finds the pod anew by neighbour discovery.
    try first.node.ip("-6 neigh flush all")
    let ping = try first.node.command(["ping", "-c", "1", "-W", "5", other])
    #expect(ping.status == 0, "node to pod: \(ping.output)")
    try first.remove(Self.address, suffix: "00000000001")
    try second.check(try Self.interface(other, host: "eni00000000002"))
  }

  @Test(.enabled(if: hasIPv6())) func perPodRules() throws {
    let fixture = try PodFixture(node: try Self.makeNode())
    let before = try fixture.nodeState()
    let interface = try Self.interface(table: RouteTable(10101))
    try fixture.add(PodFixture.network([interface], routing: .perPodRules))
    let rules = try fixture.node.ip("-6 rule show").split(separator: "\n").filter { $0.contains(Self.address) }
    #expect(rules.map { $0.split(separator: "\t").first.map(String.init) } == ["512:", "1536:"])
    try fixture.check(interface)
    #expect(try fixture.remove(Self.address, table: RouteTable(10101)) == .removed)
    #expect(try fixture.nodeState() == before)
  }

  @Test(.enabled(if: hasIPv6())) func secondInterfaceHasATableOfItsOwn() throws {
    let fixture = try PodFixture(node: try Self.makeNode())
    let interfaces = [
      try Self.interface(),
      try Self.interface("2001:db8:1:3::7", host: "enibbbbbbbbbbb", pod: "mNicIf1", index: 1, table: RouteTable(10101)),
    ]
    try fixture.add(PodFixture.network(interfaces))
    let routes = try fixture.pod.ip("-6 route show table 1")
    #expect(routes.contains("default via fe80::2 dev mNicIf1"), "\(routes)")
    #expect(try fixture.pod.ip("-6 rule show").contains("1:\tfrom 2001:db8:1:3::7 lookup 1"))
    for interface in interfaces { try fixture.check(interface) }
  }

  /// The operator gave ENABLE_IPv6 to the agent and not to the init container.
  @Test(.enabled(if: hasIPv6())) func aNodeWithIPv6SwitchedOffIsNamed() throws {
    let fixture = try PodFixture(node: try NamespaceFixture())
    try fixture.node.run {
      for scope in ["all", "default"] { _ = try Sysctl("net", "ipv6", "conf", scope, "disable_ipv6").write("1") }
    }
    let before = try fixture.nodeState()
    let error = #expect(throws: PodNetworkError.self) { try fixture.add(PodFixture.network([try Self.interface()])) }
    #expect(error?.code == .unsupported && error?.description.contains("net.ipv6.conf.all.disable_ipv6=0") == true)
    #expect(try fixture.nodeState() == before, "nothing is left")
  }

  /// A pair without an address is what a killed ADD leaves; a wired one stays.
  @Test(.enabled(if: hasIPv6())) func onlyAnUnfinishedPairIsRemoved() throws {
    let fixture = try PodFixture(node: try Self.makeNode())
    let interface = try Self.interface()
    try fixture.add(PodFixture.network([interface]))
    let removed = { [fixture] in
      try fixture.node.run { [pod = fixture.pod] in
        try UnfinishedVeth.remove(
          podName: interface.podName, hostSuffix: "0123456789a", pod: try pod.socket(), host: try NetlinkSocket())
      }
    }
    #expect(try !removed())
    try fixture.pod.ip("-6 addr del \(Self.address)/128 dev eth0")
    #expect(try removed())
  }
}

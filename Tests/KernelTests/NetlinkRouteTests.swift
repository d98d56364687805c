// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NetlinkRouteTests {
  static func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }
  static func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

  @Test(
    arguments: ["10.0.3.7/32", "10.9.0.0/16", "fd00::7/128", "fd00:1::/80"], [RouteTable.main, .pods, RouteTable(2)])
  func aRouteIsAddedOnce(text: String, table: RouteTable) throws {
    let (_, socket, link) = try NetlinkAddressTests.fixture()
    let route = Route(to: try Self.prefix(text), table: table, device: link)
    #expect(try socket.perform(.add(route)) == .done)
    #expect(try socket.perform(.add(route)) == .alreadySo)
    #expect(try socket.perform(.replace(route)) == .done)
    let found = try Route.find(route.destination, table: table, on: socket)
    #expect(found.count == 1 && found.allSatisfy { $0.matches(route) && $0.origin == 3 })
    #expect(try Route.find(route.destination, table: RouteTable(77), on: socket).isEmpty)
    #expect(try socket.perform(.delete(route)) == .done)
    #expect(try socket.perform(.delete(route)) == .alreadyGone)
    #expect(try socket.perform(.delete(Route(to: route.destination, table: table, device: 4711))) == .alreadyGone)
  }

  @Test func anotherRouteInThePlaceIsAnErrorAndIsReplaced() throws {
    let (node, socket, link) = try NetlinkAddressTests.fixture()
    try node.addLink("d1")
    try node.ip("route add 10.0.3.7/32 dev d1 table 20512")
    let route = Route(to: try Self.prefix("10.0.3.7/32"), table: .pods, device: link)
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.add(route)) }
    #expect(error.code == .exists)
    #expect(error.description.hasPrefix("add route 10.0.3.7/32 dev \(link) table 20512: file exists (errno 17)"))
    #expect(try socket.perform(.replace(route)) == .done)
    #expect(try node.ip("route show table 20512") == "10.0.3.7 dev d0 scope link \n")
  }

  @Test func gatewaySourceScopeAndMetricAreKept() throws {
    let (node, socket, link) = try NetlinkAddressTests.fixture()
    try node.ip("addr add 10.0.1.5/32 dev d0")
    try node.ip("addr add fd00::5/128 dev d0 nodad")
    let everything = Route.everything(.ipv4)
    try socket.perform([
      .add(Route(to: try Self.prefix("10.0.1.1/32"), table: RouteTable(2), device: link)),
      .add(
        Route(
          to: everything, table: RouteTable(2), device: link, gateway: try Self.address("10.0.1.1"),
          source: try Self.address("10.0.1.5"), priority: 7)),
      .add(
        Route(
          to: everything, table: RouteTable(10100), device: link, gateway: try Self.address("192.0.2.1"),
          isOnLink: true)),
      .add(Route(to: try Self.prefix("10.8.0.0/16"), table: RouteTable(2), kind: .blackhole)),
      .add(
        Route(
          to: Route.everything(.ipv6), table: RouteTable(2), device: link, gateway: try Self.address("fe80:ec2::1"))),
    ])
    #expect(
      try node.ip("route show table 2")
        == "default via 10.0.1.1 dev d0 src 10.0.1.5 metric 7 \n10.0.1.1 dev d0 scope link \nblackhole 10.8.0.0/16 \n")
    #expect(try node.ip("route show table 10100") == "default via 192.0.2.1 dev d0 onlink \n")
    #expect(try node.ip("-6 route show table 2").hasPrefix("default via fe80:ec2::1 dev d0 metric 1024"))
    let listed = try Route.list(table: RouteTable(2), family: .ipv4, on: socket)
    #expect(listed.map(\.kind) == [.unicast, .unicast, .blackhole] && listed.map(\.priority) == [7, 0, 0])
    #expect(listed.first?.source == IPAddress("10.0.1.5") && listed.first?.gateway == IPAddress("10.0.1.1"))
    #expect(try Route.list(table: RouteTable(10100), family: .ipv4, on: socket).map(\.isOnLink) == [true])
  }

  @Test func theKernelSaysWhatIsWrong() throws {
    let (_, socket, link) = try NetlinkAddressTests.fixture()
    let route = Route(to: Route.everything(.ipv4), device: link, gateway: try Self.address("192.0.2.1"))
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.add(route)) }
    #expect(error.code == .down && error.errno == ENETUNREACH)
    #expect(error.detail == "Nexthop has invalid gateway")
    #expect(
      error.description == "add route 0.0.0.0/0 via 192.0.2.1 dev \(link) table 254: network is unreachable "
        + "(errno 101): Nexthop has invalid gateway")
  }

  @Test func aLookupFollowsMarksAndInputLinks() throws {
    let (node, socket, link) = try NetlinkAddressTests.fixture()
    let d1 = try node.addLink("d1").index
    for line in [
      "addr add 10.0.1.5/24 dev d0", "addr add 10.0.2.5/24 dev d1",
      "route add default via 10.0.1.1", "route add default via 10.0.2.1 table 3",
      "rule add priority 1536 fwmark 2/0x7f table 3", "rule add priority 512 table 20512",
      "route add 10.0.9.9/32 dev d1 table 20512",
    ] { try node.ip(line) }
    try node.run { try Sysctl(name: "net.ipv4.ip_forward").write("1") }
    let outside = try Self.address("198.51.100.1")
    let pod = try Self.address("10.0.9.9")
    let plain = try #require(try Route.lookup(outside, on: socket))
    #expect(plain.device == link && plain.gateway == IPAddress("10.0.1.1") && plain.destination.isSingle)
    #expect(plain.source == IPAddress("10.0.1.5") && plain.table == .main)
    let marked = try #require(try Route.lookup(outside, mark: 2, on: socket))
    #expect(marked.device == d1 && marked.gateway == IPAddress("10.0.2.1"))
    let forwarded = try #require(try Route.lookup(outside, from: pod, mark: 2, input: d1, on: socket))
    #expect(forwarded.device == d1)
    let hit = try #require(try Route.match(pod, on: socket))
    #expect(hit.destination == IPPrefix(single: pod) && hit.table == .pods && hit.device == d1)
    #expect(try Route.match(outside, on: socket)?.destination == Route.everything(.ipv4))
    #expect(try Route.match(Self.address("fd00::1"), on: socket) == nil)
    try node.ip("route del default")
    #expect(try Route.match(outside, on: socket) == nil)
    #expect(try Route.lookup(outside, on: socket) == nil)
  }

  @Test func aThousandRoutesAreListed() throws {
    let (_, socket, link) = try NetlinkAddressTests.fixture()
    let base = try Self.address("10.5.0.0")
    let routes = (0..<1000).map { (offset: Int) -> Route in
      Route(to: IPPrefix(single: base.advanced(by: UInt128(offset)) ?? base), table: .pods, device: link)
    }
    let other = Route(to: IPPrefix(single: try Self.address("10.6.0.1")), table: RouteTable(2), device: link)
    try socket.perform(routes.map { .add($0) } + [.add(other)])
    let listed = try Route.list(table: .pods, family: .ipv4, on: socket)
    #expect(listed.map(\.destination) == routes.map(\.destination))
    #expect(try Route.list(table: .pods, family: .ipv4, device: link, on: socket).count == 1000)
    #expect(try Route.list(table: .pods, family: .ipv4, device: 1, on: socket).isEmpty)
    #expect(try Route.list(table: RouteTable(99), family: .ipv4, on: socket).isEmpty)
    // With the rule that a node has, the socket finds each existing route without listing the table.
    try socket.perform(.add(PolicyRule(family: .ipv4, priority: RulePriority.toPod, table: .pods)))
    let results = try socket.performEach(routes.map { .add($0) })
    let others = results.filter { $0 != .success(.alreadySo) }
    #expect(results.count == 1000 && others.isEmpty)
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NodeENIWiringTests {
  /// A node with a primary link that has the subnet's route, and a secondary one that EC2 has just attached.
  private struct Node: Sendable {
    let fixture: NamespaceFixture
    let primary: Link
    let secondary: Link

    init() throws {
      fixture = try NamespaceFixture()
      primary = try fixture.addLink("eth0", mac: MACAddress("0a:00:00:00:00:01"))
      secondary = try fixture.addLink("eth1", mac: MACAddress("0a:00:00:00:00:02"))
      try fixture.socket().perform(.setDown(secondary.index))
      try fixture.ip("addr add 10.0.1.4/24 dev eth0")
      try fixture.ip("route add default via 10.0.1.1")
    }

    /// Runs inside the node, since sysctls belong to the thread's namespace.
    func apply(_ wiring: ENIWiring, to link: Link) throws -> [String] {
      try fixture.run {
        let socket = try NetlinkSocket()
        let changed = try wiring.apply(to: link, on: socket)
        // A second run changes nothing.
        #expect(try wiring.apply(to: link, on: socket).isEmpty)
        return changed.map(\.description)
      }
    }

    var rules: [String] {
      get throws {
        try PolicyRule.list(.ipv4, on: fixture.socket()).map(\.description).filter { !$0.hasPrefix("0:") }
          .filter { !$0.hasPrefix("32766:") && !$0.hasPrefix("32767:") }
      }
    }
  }

  /// The route that the table falls back to while its link is down, as `ip` prints it.
  private static let dead = "unreachable default metric 4294967295 \n"

  private func wiring(
    address: String = "10.0.1.9", subnet: String = "10.0.1.0/24", table: RouteTable = RouteTable(2),
    mark: PacketMark? = PacketMark(value: 2, mask: 0x7f)
  ) throws -> ENIWiring {
    ENIWiring(
      mac: try #require(MACAddress("0a:00:00:00:00:02")), address: try #require(IPAddress(address)),
      subnet: try #require(IPPrefix(subnet)), mtu: 9001, table: table, mark: mark)
  }

  @Test func aSecondaryENIIsWired() throws {
    let node = try Node()
    let link = node.secondary.index
    #expect(try wiring().findLink(on: node.fixture.socket())?.index == link)
    #expect(
      try node.apply(wiring(), to: node.secondary) == [
        "link \(link) has mtu 1500, not 9001", "link \(link) is down",
        "net/ipv4/conf/eth1/rp_filter is 0, not 2", "no address 10.0.1.9/24 dev \(link)",
        "no route 10.0.1.1/32 dev \(link) table 2", "no route 0.0.0.0/0 via 10.0.1.1 dev \(link) table 2",
        "no route unreachable 0.0.0.0/0 table 2 metric 4294967295", "no rule 32765: from 10.0.1.9/32 lookup 2",
        "no rule 1536: fwmark 0x2/0x7f lookup 2",
      ])
    #expect(
      try node.fixture.ip("route show table 2")
        == "default via 10.0.1.1 dev eth1 \n\(Self.dead)10.0.1.1 dev eth1 scope link \n")
    // Table main has only the routes of the primary link.
    #expect(
      try node.fixture.ip("route show") == "default via 10.0.1.1 dev eth0 \n"
        + "10.0.1.0/24 dev eth0 proto kernel scope link src 10.0.1.4 \n")
    #expect(try node.rules == ["1536: fwmark 0x2/0x7f lookup 2", "32765: from 10.0.1.9/32 lookup 2"])
  }

  /// Without duplicate detection: the node can ask for the router's MAC as soon as the link is up.
  @Test func aSecondaryENIIsWiredInIPv6() throws {
    let node = try Node()
    let link = node.secondary.index
    let wiring = try wiring(address: "2001:db8:1::9", subnet: "2001:db8:1::/64")
    #expect(
      try node.apply(wiring, to: node.secondary) == [
        "link \(link) has mtu 1500, not 9001", "link \(link) is down", "net/ipv6/conf/eth1/accept_dad is 1, not 0",
        "no address 2001:db8:1::9/64 dev \(link)", "no route fe80:ec2::1/128 dev \(link) table 2",
        "no route ::/0 via fe80:ec2::1 dev \(link) table 2", "no rule 32765: from 2001:db8:1::9/128 lookup 2",
        "no rule 1536: fwmark 0x2/0x7f lookup 2",
      ])
    let socket = try node.fixture.socket()
    #expect(try wiring.reachesRouter(by: link, on: socket))
    #expect(
      try !Route.list(table: .main, family: .ipv6, device: link, on: socket).contains {
        $0.destination == wiring.subnet
      })
    for change in ["down", "addrgenmode none", "up"] { try node.fixture.ip("link set eth1 \(change)") }
    #expect(try node.apply(wiring, to: node.secondary).isEmpty == false)
    #expect(try !wiring.reachesRouter(by: link, on: socket), "the link has no link-local address")
  }

  @Test func aPrimaryENIGetsMTUAndSettingAlone() throws {
    let node = try Node()
    let wiring = try wiring(address: "10.0.1.4", table: .main, mark: nil)
    #expect(
      try node.apply(wiring, to: node.primary) == [
        "link \(node.primary.index) has mtu 1500, not 9001", "net/ipv4/conf/eth0/rp_filter is 0, not 2",
      ])
    #expect(try node.rules.isEmpty)
  }

  /// Leftovers of an earlier run, of amazon-vpc-cni-k8s or of the machine image are corrected. Additions come first.
  @Test func leftoversAreReplaced() throws {
    let node = try Node()
    for line in [
      "link set eth1 up mtu 9001",
      // Same subnet: our address becomes a secondary of the foreign one, and the kernel deletes both together.
      "addr add 10.0.1.77/24 dev eth1", "addr add 192.168.5.5/24 dev eth1", "addr add 169.254.9.9/24 dev eth1",
      "route add 10.0.1.254 dev eth1 table 2", "route add default via 10.0.1.254 dev eth1 table 2",
      "rule add priority 32765 from 10.0.1.77 lookup 2", "rule add priority 1536 fwmark 9/0x7f lookup 2",
      // These rules are not ours.
      "rule add priority 1536 from 10.0.1.200 lookup 2", "rule add priority 1536 fwmark 9/0x7f lookup 3",
      "rule add priority 32765 from 10.0.1.80 lookup 3",
    ] { try node.fixture.ip(line) }
    let changed = try node.apply(wiring(), to: node.secondary)
    let firstDeletion = changed.firstIndex { $0.hasSuffix("should not be there") } ?? 0
    #expect(changed[..<firstDeletion].allSatisfy { $0.hasPrefix("no ") || $0.hasPrefix("net/") })
    let link = node.secondary.index
    #expect(changed.contains("address 10.0.1.77/24 dev \(link) should not be there"))
    #expect(changed.contains("address 192.168.5.5/24 dev \(link) should not be there"))
    let addresses = try InterfaceAddress.list(link: link, family: .ipv4, on: node.fixture.socket())
    #expect(addresses.map { "\($0.address)" } == ["169.254.9.9", "10.0.1.9"])
    #expect(
      try node.fixture.ip("route show table 2")
        == "default via 10.0.1.1 dev eth1 \n\(Self.dead)10.0.1.1 dev eth1 scope link \n10.0.1.254 dev eth1 scope link \n"
    )
    #expect(
      try node.fixture.ip("route show dev eth1").split(separator: "\n").map { $0.prefix(14) } == ["169.254.9.0/24"])
    #expect(
      try node.rules == [
        "1536: from 10.0.1.200/32 lookup 2", "1536: fwmark 0x9/0x7f lookup 3", "1536: fwmark 0x2/0x7f lookup 2",
        "32765: from 10.0.1.80/32 lookup 3", "32765: from 10.0.1.9/32 lookup 2",
      ])
  }

  @Test func whatTheReferenceWroteStaysAsItIs() throws {
    let node = try Node()
    for line in [
      "link set eth1 up mtu 9001", "addr add 10.0.1.9/24 broadcast 10.0.1.255 dev eth1",
      "route del 10.0.1.0/24 dev eth1", "route add 10.0.1.1 dev eth1 table 2 scope link",
      "route add default via 10.0.1.1 dev eth1 table 2", "rule add priority 32765 from 10.0.1.9 lookup 2",
    ] { try node.fixture.ip(line) }
    #expect(
      try node.apply(wiring(mark: nil), to: node.secondary) == [
        "net/ipv4/conf/eth1/rp_filter is 0, not 2", "no route unreachable 0.0.0.0/0 table 2 metric 4294967295",
      ])
  }

  @Test func aTableOfTheMachineImageIsReused() throws {
    let node = try Node()
    try node.fixture.ip("rule add priority 10001 from 10.0.1.9 lookup 10001")
    let address = try #require(IPAddress("10.0.1.9"))
    let table = try ENIWiring.existingTable(for: address, on: node.fixture.socket())
    #expect(table == RouteTable(10001))
    let changed = try node.apply(wiring(table: RouteTable(10001)), to: node.secondary)
    #expect(!changed.contains { $0.contains("32765") })
    #expect(try ENIWiring.existingTable(for: IPAddress(ipv4: 7), on: node.fixture.socket()) == nil)
  }

  @Test func everyLossIsSeenAndMended() throws {
    let node = try Node()
    let wiring = try wiring()
    let whole = try node.apply(wiring, to: node.secondary)
    #expect(whole.count == 9)
    for loss in [
      "link set eth1 mtu 1500", "link set eth1 down", "addr del 10.0.1.9/24 dev eth1", "route flush table 2",
      "route del default table 2", "route del unreachable default table 2", "rule del priority 1536",
      "rule del priority 32765",
    ] {
      try node.fixture.ip(loss)
      #expect(try !node.apply(wiring, to: node.secondary).isEmpty, "\(loss)")
    }
    try node.fixture.run {
      let socket = try NetlinkSocket()
      let link = try #require(try Link.find(index: node.secondary.index, on: socket))
      #expect(try wiring.verify(link, on: socket).isEmpty)
    }
  }

  @Test func aDetachedENIIsTakenAway() throws {
    let node = try Node()
    _ = try node.apply(wiring(), to: node.secondary)
    let socket = try node.fixture.socket()
    // The kernel removes the routes together with the link.
    try socket.perform(.deleteLink(node.secondary.index))
    #expect(try ENIWiring.remove(table: RouteTable(2), family: .ipv4, on: socket).count == 3)
    #expect(try ENIWiring.remove(table: RouteTable(2), family: .ipv4, on: socket).isEmpty)
    #expect(try node.rules.isEmpty)
    #expect(try ENIWiring.remove(table: .main, family: .ipv4, on: socket).isEmpty)
    #expect(try node.fixture.ip("route show").contains("default via 10.0.1.1 dev eth0"))
  }

  @Test func anENIThatStaysLosesItsTable() throws {
    let node = try Node()
    _ = try node.apply(wiring(), to: node.secondary)
    let removed = try ENIWiring.remove(table: RouteTable(2), family: .ipv4, on: node.fixture.socket())
    #expect(removed.count == 5)
    #expect(try node.fixture.ip("route show table 2") == "")
  }

  /// Packets of a link that is down are refused. Without the unreachable route, they would leave by the primary link.
  @Test func aLinkThatIsDownLeadsNowhere() throws {
    let node = try Node()
    _ = try node.apply(wiring(), to: node.secondary)
    let socket = try node.fixture.socket()
    let away = IPAddress(ipv4: 0xc633_640a)
    #expect(try Route.lookup(away, mark: 2, on: socket)?.device == node.secondary.index)
    try socket.perform(.setDown(node.secondary.index))
    #expect(try Route.lookup(away, mark: 2, on: socket) == nil)
    #expect(try Route.lookup(away, on: socket)?.device == node.primary.index)
    #expect(try !node.apply(wiring(), to: node.secondary).isEmpty)
    #expect(try Route.lookup(away, mark: 2, on: socket)?.device == node.secondary.index)
  }

  /// An ENI that was detached while no agent was running leaves its rules and a table without a usable route. The agent
  /// removes both, so that the address works again on another ENI. A table with any other route belongs to another
  /// program.
  @Test func whatIsLeftOfAnENIThatIsGoneGoes() throws {
    let node = try Node()
    _ = try node.apply(wiring(), to: node.secondary)
    let socket = try node.fixture.socket()
    try socket.perform(.deleteLink(node.secondary.index))
    for line in [
      "rule add priority 32765 from 10.0.1.80 lookup 3", "route add unreachable default metric 4294967295 table 4",
      "route add 10.0.9.9 via 10.0.1.1 table 4", "rule add priority 32765 from 10.0.1.81 lookup 4",
    ] { try node.fixture.ip(line) }
    #expect(try ENIWiring.removeDead(besides: [RouteTable(2)], family: .ipv4, on: socket).isEmpty)
    #expect(try ENIWiring.removeDead(besides: [], family: .ipv4, on: socket).count == 3)
    #expect(try node.fixture.ip("route show table 2") == "")
    #expect(
      try node.rules == ["32765: from 10.0.1.80/32 lookup 3", "32765: from 10.0.1.81/32 lookup 4"])
  }

  @Test func anIPv6ENIIsWired() throws {
    let node = try Node()
    let wiring = try wiring(address: "fd00:1::9", subnet: "fd00:1::/64")
    _ = try node.apply(wiring, to: node.secondary)
    let routes = try node.fixture.ip("-6 route show table 2").split(separator: "\n").map(String.init)
    #expect(routes.count == 2 && routes.allSatisfy { $0.contains("fe80:ec2::1") && $0.contains("dev eth1") })
    #expect(try !node.fixture.ip("-6 route show").contains("fd00:1::/64"))
    let rules = try PolicyRule.list(.ipv6, on: node.fixture.socket()).map(\.description)
    #expect(rules.contains("32765: from fd00:1::9/128 lookup 2") && rules.contains("1536: fwmark 0x2/0x7f lookup 2"))
  }
}

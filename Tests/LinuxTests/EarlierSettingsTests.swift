// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCLinux

/// What the kernel shows about pods and connections from before a change of the settings.
@Suite struct EarlierSettingsTests {
  static let digits = "0123456789a"

  static func link(_ index: UInt32, _ name: String, kind: String = "veth") -> Link {
    Link(
      index: index, name: name, mac: nil, mtu: 9001, isUp: true, hasCarrier: true, isLoopback: false, kind: kind,
      peerIndex: nil, peerNamespaceID: nil)
  }

  static func route(_ table: RouteTable, _ device: UInt32, _ last: UInt32 = 7) -> Route {
    Route(to: IPPrefix(single: IPAddress(ipv4: 0x0a00_0100 + last)), table: table, device: device)
  }

  static func found(_ links: [Link], _ routes: [Route], rules: [PolicyRule] = []) -> Set<String> {
    EarlierSettings.prefixes(links: links, rules: rules, routes: routes)
  }

  @Test func aVethToWhichAPodsRouteLeadsIsAPods() {
    let links = [Self.link(1, "eni" + Self.digits), Self.link(2, "abc" + Self.digits), Self.link(3, "x" + Self.digits)]
    #expect(Self.found(links, [Self.route(.pods, 1), Self.route(.pods, 2, 8)]) == ["eni", "abc"])
    // A route in main counts only with the rule that points to it: other networks have such routes too.
    #expect(Self.found(links, [Self.route(.main, 2)]) == [])
    let toPod = PodRules.rules(pod: IPAddress(ipv4: 0x0a00_0107), table: .main)
    #expect(Self.found(links, [Self.route(.main, 2)], rules: toPod) == ["abc"])
    #expect(Self.found(links, [Self.route(.main, 2, 8)], rules: toPod) == [])
    #expect(Self.found(links, [Self.route(RouteTable(7), 2)]) == [])
  }

  @Test(arguments: [
    "0123456789a", "toolong0123456789a", "eni0123456789", "eni0123456789G", "e i0123456789a", "\"x0123456789a",
    "e+0123456789a",
  ])
  func whatNoPluginCallsAVethIsNone(_ name: String) {
    #expect(HostVethName.split(name) == nil)
    #expect(Self.found([Self.link(1, name)], [Self.route(.pods, 1)]) == [])
  }

  @Test func otherKindsOfLinksAreNone() {
    #expect(Self.found([Self.link(1, "eni" + Self.digits, kind: "dummy")], [Self.route(.pods, 1)]) == [])
  }

  static func rule(_ mark: UInt32, priority: UInt32 = 1024, table: RouteTable = .main) -> PolicyRule {
    PolicyRule(family: .ipv4, priority: priority, mark: PacketMark(value: mark, mask: mark), table: table)
  }

  @Test func marksOfEarlierRulesAreKept() {
    let marks = { (rules: [PolicyRule], today: UInt32?) in
      EarlierSettings.marks(rules: rules, today: today.map { PacketMark(value: $0, mask: $0) }, taken: 0x7f).map(
        \.value)
    }
    #expect(marks([Self.rule(0x80), Self.rule(0x100)], 0x80) == [0x100])
    #expect(marks([Self.rule(0x80)], nil) == [0x80])
    #expect(marks([Self.rule(0x80), Self.rule(0x80)], 0x100) == [0x80])
    // These marks have another meaning today: they belong to an ENI or are a part of today's mark.
    #expect(marks([Self.rule(0x40)], 0x80) == [])
    #expect(marks([Self.rule(0x100)], 0x300) == [])
    #expect(marks([Self.rule(0x100, priority: 1025), Self.rule(0x100, table: RouteTable(7))], 0x80) == [])
  }

  @Test func nodeRulesHoldThem() {
    var rules = NodeRules(family: .ipv4, leadsToPodsTable: false, primaryMark: nil)
    rules.earlierMarks = [PacketMark(value: 0x100, mask: 0x100)]
    #expect(rules.wanted.map(\.description) == ["1024: fwmark 0x100/0x100 lookup 254"])
  }
}

/// A flood of kernel notifications.
@Suite struct NodeChangesTests {
  @Test func aFloodOfRoutesIsBoundedAndLooksAtEverything() {
    var changes = NodeChanges()
    let limit = UInt32(NodeChanges.limit)
    for number in 0..<limit {
      let route = EarlierSettingsTests.route(.pods, 1, number)
      changes.add(NetlinkMonitor.Notice(event: .route(route, isRemoved: number % 2 == 0), port: 7))
    }
    #expect(!changes.isLost && changes.addedRoutes.count + changes.removedRoutes.count == Int(limit))
    for number in limit..<(3 * limit) {
      changes.add(
        NetlinkMonitor.Notice(event: .route(EarlierSettingsTests.route(.pods, 1, number), isRemoved: false), port: 7))
    }
    #expect(changes.isLost)
    #expect(changes.addedRoutes.count <= Int(limit) && changes.removedRoutes.isEmpty)
    #expect(changes.origin.ports == [7], "who it was is still told")
  }

  @Test func linksAndTablesAreBoundedToo() {
    var changes = NodeChanges()
    for index in 0...UInt32(NodeChanges.limit) {
      let link = EarlierSettingsTests.link(index, "l\(index)", kind: "dummy")
      changes.add(NetlinkMonitor.Notice(event: .link(link, isRemoved: index % 2 == 0), port: 0))
    }
    #expect(changes.isLost && changes.links.isEmpty)
    changes = NodeChanges()
    for number in 0...NodeChanges.limit {
      changes.add(NftablesMonitor.Notice(event: .table("t\(number)", family: .ipv4), port: 0))
    }
    #expect(changes.isLost && changes.tables.isEmpty)
  }
}

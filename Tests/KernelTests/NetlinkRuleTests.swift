// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NetlinkRuleTests {
  static func rules(_ family: AddressFamily) throws -> [PolicyRule] {
    let pod = IPPrefix(single: try #require(IPAddress(family == .ipv4 ? "10.0.3.7" : "fd00::7")))
    let subnet = try #require(IPPrefix(family == .ipv4 ? "10.0.0.0/16" : "fd00::/64"))
    let link = InterfaceName("d0")
    return [
      PolicyRule(family: family, priority: 512, table: .pods),
      PolicyRule(family: family, priority: 512, to: pod, table: .main),
      PolicyRule(family: family, priority: 1024, mark: .primary, table: .main),
      PolicyRule(family: family, priority: 1535, to: subnet, table: .main),
      PolicyRule(family: family, priority: 1536, mark: PacketMark(value: 3, mask: 0x7f), table: RouteTable(3)),
      PolicyRule(family: family, priority: 1537, mark: PacketMark(value: 0, mask: 0x7f), table: RouteTable(3)),
      PolicyRule(family: family, priority: 1538, from: pod, table: RouteTable(10100)),
      PolicyRule(family: family, priority: 1539, from: pod, to: subnet, input: link, output: link, table: .main),
    ]
  }

  @Test(arguments: AddressFamily.allCases)
  func rulesComeAndGo(family: AddressFamily) throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let before = try PolicyRule.list(family, on: socket)
    for rule in try Self.rules(family) {
      #expect(try socket.perform(.add(rule)) == .done, "\(rule)")
      #expect(try socket.perform(.add(rule)) == .alreadySo, "\(rule)")
    }
    let listed = try PolicyRule.list(family, on: socket)
    #expect(Set(listed) == Set(before + (try Self.rules(family))))
    #expect(listed.map(\.priority) == listed.map(\.priority).sorted())
    for rule in try Self.rules(family) {
      #expect(try socket.perform(.delete(rule)) == .done, "\(rule)")
      #expect(try socket.perform(.delete(rule)) == .alreadyGone, "\(rule)")
    }
    #expect(try PolicyRule.list(family, on: socket) == before)
  }

  @Test func ipShowsTheSame() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    for rule in try Self.rules(.ipv4).prefix(5) { try socket.perform(.add(rule)) }
    #expect(
      try node.ip("rule show") == """
        0:\tfrom all lookup local
        512:\tfrom all lookup 20512
        512:\tfrom all to 10.0.3.7 lookup main
        1024:\tfrom all fwmark 0x80/0x80 lookup main
        1535:\tfrom all to 10.0.0.0/16 lookup main
        1536:\tfrom all fwmark 0x3/0x7f lookup 3
        32766:\tfrom all lookup main
        32767:\tfrom all lookup default

        """)
  }

  @Test func aRuleWithMoreInItIsForeign() throws {
    let node = try NamespaceFixture()
    for line in [
      "from 10.0.0.3 tos 0x10", "not from 10.0.0.4", "ipproto tcp dport 80", "uidrange 5-6",
    ] { try node.ip("rule add priority 100 \(line) lookup 7") }
    try node.ip("rule add priority 100 from 10.0.0.2 lookup main suppress_prefixlength 0")
    try node.ip("rule add priority 100 from 10.0.0.1 lookup 7")
    let listed = try PolicyRule.list(.ipv4, on: node.socket()).filter { $0.priority == 100 }
    #expect(listed.map(\.isForeign) == [true, false, true, true, true, false])
    #expect(listed.map(\.isLookup) == [false, false, false, false, false, true])
  }

  @Test func aRulePastOthersIsWrittenAndRead() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    var rule = PolicyRule(family: .ipv4, priority: 200, input: InterfaceName("lo"), table: RouteTable(0))
    rule.isInverted = true
    rule.skipsTo = 32766
    #expect(try socket.perform(.add(rule)) == .done)
    #expect(try socket.perform(.add(rule)) == .alreadySo)
    #expect(try PolicyRule.list(.ipv4, on: socket).contains(rule))
    #expect(try node.ip("rule show priority 200") == "200:\tnot from all iif lo goto 32766\n")
    #expect(try socket.perform(.delete(rule)) == .done)
    #expect(try socket.perform(.delete(rule)) == .alreadyGone)
  }

  @Test func aRuleThatTheKernelTakesForEqualIsAddedAllTheSame() throws {
    let socket = try NamespaceFixture().socket()
    let pod = IPPrefix(single: try #require(IPAddress("10.0.3.7")))
    let toPod = PolicyRule(family: .ipv4, priority: 512, to: pod, table: .pods)
    let all = PolicyRule(family: .ipv4, priority: 512, table: .pods)
    #expect(try socket.perform(.add(toPod)) == .done)
    #expect(try socket.perform(.add(all)) == .done)
    #expect(try socket.perform(.add(all)) == .alreadySo)
    #expect(try PolicyRule.list(.ipv4, on: socket).filter { $0.priority == 512 } == [toPod, all])
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NodeRulesTests {
  private func rules(_ family: AddressFamily, on socket: NetlinkSocket) throws -> [String] {
    try PolicyRule.list(family, on: socket).filter { (1..<32766).contains($0.priority) }.map(\.description)
  }

  @Test(arguments: AddressFamily.allCases)
  func eachRuleStandsThereOnce(family: AddressFamily) throws {
    let socket = try NamespaceFixture().socket()
    let wanted = ["512: lookup 20512", "1024: fwmark 0x80/0x80 lookup 254", "32764: not iif lo goto 32766"]
    let node = NodeRules(family: family, leadsToPodsTable: true)
    #expect(try node.apply(on: socket).count == 3)
    #expect(try node.apply(on: socket).isEmpty)
    #expect(try rules(family, on: socket) == wanted)
    try socket.perform(.delete(PolicyRule(family: family, priority: 512, table: .pods)))
    #expect(try node.verify(on: socket).map(\.description) == ["no rule 512: lookup 20512"])
    #expect(try node.apply(on: socket).count == 1)
    #expect(try rules(family, on: socket) == wanted)
  }

  @Test func doublesAndOldMarksGo() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    for line in [
      "priority 1024 fwmark 0x80/0x80 lookup main", "priority 1024 fwmark 0x40/0x40 lookup main",
      "priority 512 lookup 20512", "priority 1024 fwmark 0x40/0x40 lookup 7", "priority 1024 from 10.0.0.1 lookup main",
      "priority 512 to 10.0.3.7 lookup main",
    ] { try node.ip("rule add \(line)") }
    // With another protocol, the kernel accepts the same rule a second time.
    try node.ip("rule add priority 1024 fwmark 0x80/0x80 lookup main protocol 77")
    try node.ip("rule add priority 512 lookup 20512 protocol 77")
    #expect(try NodeRules(family: .ipv4, leadsToPodsTable: true).apply(on: socket).count == 4)
    #expect(
      try rules(.ipv4, on: socket).sorted() == [
        "1024: from 10.0.0.1/32 lookup 254", "1024: fwmark 0x40/0x40 lookup 7", "1024: fwmark 0x80/0x80 lookup 254",
        "32764: not iif lo goto 32766", "512: lookup 20512", "512: to 10.0.3.7/32 lookup 254",
      ])
    #expect(
      try NodeRules(family: .ipv4, leadsToPodsTable: false, primaryMark: nil).apply(on: socket).count == 3)
    #expect(try rules(.ipv4, on: socket).count == 3)
  }

  @Test(arguments: [true, false])
  func rulesOfExternalServicesAreReplaced(leadsToPodsTable: Bool) throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    for line in [
      "priority 1535 to 10.1.0.0/16 lookup main", "priority 1535 to 10.2.0.0/16 lookup main",
      "priority 1535 to 10.3.0.0/16 lookup 7", "priority 1535 from 10.4.0.1 lookup main",
      "priority 1535 to 10.5.0.0/16 fwmark 4 lookup main",
    ] { try node.ip("rule add \(line)") }
    let services = ["10.2.0.0/16", "0.0.0.0/0", "fd00::/8"].compactMap { IPPrefix($0) }
    let wanted = NodeRules(family: .ipv4, leadsToPodsTable: leadsToPodsTable, externalServices: services)
    #expect(!(try wanted.apply(on: socket)).isEmpty)
    #expect(try wanted.apply(on: socket).isEmpty)
    let kept = [
      "1535: from 10.4.0.1/32 lookup 254", "1535: to 10.3.0.0/16 lookup 7",
      "1535: to 10.5.0.0/16 fwmark 0x4/0xffffffff lookup 254",
    ]
    let shown = { try rules(.ipv4, on: socket).filter { $0.hasPrefix("1535:") }.sorted() }
    let halves = ["1535: to 0.0.0.0/1 lookup 254", "1535: to 128.0.0.0/1 lookup 254"]
    #expect(try shown() == (kept + halves + ["1535: to 10.2.0.0/16 lookup 254"]).sorted())
    let fewer = NodeRules(family: .ipv4, leadsToPodsTable: leadsToPodsTable, externalServices: [services[0]])
    try fewer.apply(on: socket)
    #expect(try fewer.verify(on: socket).isEmpty)
    try NodeRules(family: .ipv4, leadsToPodsTable: leadsToPodsTable).apply(on: socket)
    #expect(try shown() == kept)
  }

  /// amazon-vpc-cni-k8s's rule for 0.0.0.0/0 has no selector; deleting without one removes the first rule of its kind.
  @Test(arguments: [true, false]) func aRuleForAllAddressesTakesNoOtherAlong(isFirst: Bool) throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let add = { (rule: String) in _ = try node.ip("rule add priority 1535 \(rule)") }
    if isFirst { try add("lookup main") }
    try add("from 10.4.0.1 lookup main protocol 77")
    // With another protocol, the kernel accepts the rule although an equal one exists.
    if !isFirst { try add("lookup main protocol 78") }
    let shown = { try rules(.ipv4, on: socket).filter { $0.hasPrefix("1535:") } }
    #expect(try shown().count == 2)
    try NodeRules(family: .ipv4, leadsToPodsTable: true).apply(on: socket)
    #expect(try shown().first == "1535: from 10.4.0.1/32 lookup 254")
    #expect(try shown().count == (isFirst ? 1 : 2))
  }

  @Test(arguments: ["10.0.3.7", "fd00::7"])
  func aPodsRulesComeAndGo(text: String) throws {
    let socket = try NamespaceFixture().socket()
    let pod = try #require(IPAddress(text))
    let single = IPPrefix(single: pod)
    try socket.perform(PodRules.add(pod: pod, table: RouteTable(3)))
    try socket.perform(PodRules.add(pod: pod, table: RouteTable(3)))
    #expect(try rules(pod.family, on: socket) == ["512: to \(single) lookup 254", "1536: from \(single) lookup 3"])
    let other = try #require(pod.advanced(by: 1))
    try socket.perform(PodRules.add(pod: other, table: .main))
    try socket.perform(.add(PolicyRule(family: pod.family, priority: 1536, mark: .primary, table: RouteTable(3))))
    let all = try PodRules.list(family: pod.family, on: socket)
    #expect(all.compactMap(PodRules.address(of:)) == [pod, other, pod])
    #expect(try PodRules.remove(pod: pod, on: socket).count == 2)
    #expect(try PodRules.remove(pod: pod, on: socket).isEmpty)
    try socket.perform(PodRules.delete(pod: other, table: .main))
    #expect(try rules(pod.family, on: socket) == ["1536: fwmark 0x80/0x80 lookup 3"])
  }
}

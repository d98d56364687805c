// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// What ADD creates for a pod, as `ip` shows it.
@Suite(.requiresRoot)
struct PodNetworkTests {
  @Test(arguments: [false, true])
  func addMakesTheContractsState(isPrepared: Bool) throws {
    let fixture = try PodFixture()
    let rules = try fixture.node.ip("rule show")
    try fixture.add(PodFixture.network([try PodFixture.interface()], mtu: 8000), isPrepared: isPrepared)

    #expect(try fixture.pod.ip("-4 addr show dev eth0").contains("inet 10.0.3.7/32 scope global eth0"))
    #expect(try fixture.pod.ip("route show") == "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link \n")
    let (node, pod) = (try fixture.node.socket(), try fixture.pod.socket())
    let interface = try PodFixture.interface()
    let host = try #require(try Link.find(named: interface.hostName, on: node))
    let end = try #require(try Link.find(named: interface.podName, on: pod))
    #expect(host.isUp && host.hasCarrier && end.isUp && end.hasCarrier)
    #expect(host.mtu == 8000 && end.mtu == 8000)
    #expect(host.peerIndex == end.index && end.peerIndex == host.index)
    let mac = try #require(host.mac)
    #expect(mac.bytes[0] & 3 == 2, "unicast, locally administered")
    #expect(try fixture.pod.ip("neigh show") == "169.254.1.1 dev eth0 lladdr \(mac) PERMANENT \n")
    #expect(try fixture.node.ip("route show table 20512") == "10.0.3.7 dev eni0123456789a scope link \n")
    #expect(try !fixture.node.ip("route show table main").contains("10.0.3.7"))
    #expect(try fixture.node.ip("rule show") == rules, "no rule a pod")
    let settings = try fixture.node.run {
      try ["accept_ra", "accept_redirects", "forwarding"].map {
        try Sysctl("net", "ipv6", "conf", "eni0123456789a", $0).read()
      }
    }
    #expect(settings == ["0", "1", "0"] || settings == [nil, nil, nil])
    #expect(try !fixture.node.ip("-6 addr show dev eni0123456789a").contains("inet6"), "none whose routes would add up")
    try fixture.check(try PodFixture.interface())
  }

  /// On a node that forwards IPv6 or was hardened, a new interface starts with other settings.
  @Test func settingsThatDifferAreWritten() throws {
    let fixture = try PodFixture()
    let settings = { (interface: String) in
      try fixture.node.run {
        try ["accept_ra", "accept_redirects", "forwarding"].map {
          try Sysctl("net", "ipv6", "conf", interface, $0).read()
        }
      }
    }
    try fixture.node.run {
      for (key, value) in [("forwarding", "1"), ("accept_redirects", "0"), ("accept_ra", "2")] {
        try Sysctl("net", "ipv6", "conf", "default", key).write(value)
      }
    }
    let before = try settings("default")
    try fixture.add(PodFixture.network([try PodFixture.interface()]))
    let hasIPv6 = before != [nil, nil, nil]
    #expect(try settings("eni0123456789a") == (hasIPv6 ? ["0", "1", "0"] : before))
    #expect(try settings("default") == before, "the pod's interface alone")
  }

  @Test(arguments: [(RouteTable.main, ["512:"]), (RouteTable(3), ["512:", "1536:"])])
  func perPodRules(table: RouteTable, priorities: [String]) throws {
    let fixture = try PodFixture(node: try NamespaceFixture())
    let before = try fixture.nodeState()
    let interface = try PodFixture.interface(table: table)
    // An earlier pod with this address on another ENI left this rule. It would take precedence.
    try fixture.node.ip("rule add priority 1536 from 10.0.3.7 lookup 9")
    try fixture.add(PodFixture.network([interface], routing: .perPodRules))
    let rules = try fixture.node.ip("rule show").split(separator: "\n").filter { $0.contains("10.0.3.7") }
    #expect(rules.map { $0.split(separator: "\t").first.map(String.init) } == priorities)
    #expect(rules.first?.contains("from all to 10.0.3.7 lookup main") == true)
    if table != .main { #expect(rules.last?.contains("from 10.0.3.7 lookup 3") == true) }
    #expect(try fixture.node.ip("route show table main").contains("10.0.3.7 dev eni0123456789a scope link"))
    try fixture.check(interface)
    #expect(try fixture.remove(table: table) == .removed)
    #expect(try fixture.nodeState() == before)
    #expect(try fixture.remove(table: table) == .alreadyGone)
  }

  @Test(.requires(program: "ping")) func podsAndNodeTalk() throws {
    let first = try PodFixture()
    let second = try PodFixture(node: first.node)
    try first.add(PodFixture.network([try PodFixture.interface("10.0.3.7", host: "eni00000000001")]))
    try second.add(PodFixture.network([try PodFixture.interface("10.0.3.8", host: "eni00000000002")]))
    try first.ping("10.0.3.8")
    try second.ping("10.0.3.7")
    try first.ping("10.0.0.10")
    let ping = try first.node.command(["ping", "-c", "1", "-W", "5", "10.0.3.8"])
    #expect(ping.status == 0, "node to pod: \(ping.output)")
    try first.remove("10.0.3.7", suffix: "00000000001")
    try second.check(try PodFixture.interface("10.0.3.8", host: "eni00000000002"))
  }

  @Test func secondInterfaceHasATableOfItsOwn() throws {
    let fixture = try PodFixture()
    let interfaces = [
      try PodFixture.interface(),
      try PodFixture.interface("10.1.3.7", host: "enibbbbbbbbbbb", pod: "mNicIf1", index: 1, table: RouteTable(10101)),
    ]
    try fixture.add(PodFixture.network(interfaces))
    #expect(
      try fixture.pod.ip("route show table 1")
        == "default via 169.254.1.2 dev mNicIf1 \n169.254.1.2 dev mNicIf1 scope link \n")
    #expect(try fixture.pod.ip("rule show").contains("1:\tfrom 10.1.3.7 lookup 1"))
    for interface in interfaces { try fixture.check(interface) }
    try fixture.pod.ip("rule del priority 1")
    #expect(throws: PodNetworkError.self) { try fixture.check(interfaces[1]) }
  }

  @Test func sameNamedLeftoverIsReplaced() throws {
    let fixture = try PodFixture()
    let old = try PodFixture(node: fixture.node)
    try old.add(PodFixture.network([try PodFixture.interface("10.0.3.6")]))
    try fixture.add(PodFixture.network([try PodFixture.interface()]))
    try fixture.check(try PodFixture.interface())
    #expect(try !old.pod.ip("link show").contains("eth0"))
    // A late DEL for the old address must not touch the new pod.
    #expect(try fixture.remove("10.0.3.6") == .alreadyGone)
    try fixture.check(try PodFixture.interface())
  }

  /// The agent removes the old veth after it has answered DEL, while the next pod of that name is added.
  @Test func addWhileTheOldVethIsRemoved() async throws {
    let node = try PodFixture.makeNode()
    for round in 0..<10 {
      let old = try PodFixture(node: node)
      let new = try PodFixture(node: node)
      let addresses = ["10.0.4.\(2 * round)", "10.0.4.\(2 * round + 1)"]
      try old.add(PodFixture.network([try PodFixture.interface(addresses[0])]))
      async let removal = Task.detached { try old.remove(addresses[0]) }.value
      try new.add(PodFixture.network([try PodFixture.interface(addresses[1])]))
      _ = try await removal
      try new.check(try PodFixture.interface(addresses[1]))
      try new.remove(addresses[1])
    }
    #expect(try !node.ip("link show").contains("eni0"))
  }

  @Test func manyAtOnce() async throws {
    let node = try PodFixture.makeNode()
    let before = try PodFixture.nodeState(node)
    try await withThrowingTaskGroup { group in
      for number in 1...24 {
        group.addTask {
          let fixture = try PodFixture(node: node)
          let interface = try PodFixture.interface("10.0.5.\(number)", host: "eni000000000\(10 + number)")
          try fixture.add(PodFixture.network([interface]))
          try fixture.check(interface)
          #expect(try fixture.remove("10.0.5.\(number)", suffix: "000000000\(10 + number)") == .removed)
        }
      }
      try await group.waitForAll()
    }
    let after = try PodFixture.nodeState(node)
    #expect(after == before, "\(after)\n\(before)")
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// A failed ADD leaves nothing behind, and CHECK and DEL see the actual state.
@Suite(.requiresRoot)
struct PodNetworkFailureTests {
  struct Obstacle: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var node: [String] = []
    var pod: [String] = []
    var mtu: UInt32 = 9001
    var second = false
    let code: PodNetworkError.Code
    let text: String
  }

  static let obstacles: [Obstacle] = [
    Obstacle(
      testDescription: "pod's name taken", pod: ["link add eth0 type bridge"], code: .interfaceExists,
      text: "interface eth0 exists already in the pod's namespace"),
    Obstacle(
      testDescription: "both names taken", node: ["link add eni0123456789a type veth peer name other"],
      pod: ["link add eth0 type bridge"], code: .interfaceExists, text: "interface eth0 exists already"),
    Obstacle(
      testDescription: "host's name taken by a device", node: ["link add eni0123456789a type bridge"], code: .notOurs,
      text: "eni0123456789a exists on the host and is bridge"),
    Obstacle(testDescription: "impossible mtu", mtu: 1 << 20, code: .kernel, text: "make veth pair eni0123456789a"),
    Obstacle(
      testDescription: "gateway's route taken",
      pod: ["link add d0 type bridge", "link set d0 up", "route add 169.254.1.1/32 dev d0"], code: .kernel,
      text: "set up eth0 with 10.0.3.7: add route 169.254.1.1/32"),
    Obstacle(
      testDescription: "default route taken",
      pod: ["link add d0 type bridge", "link set d0 up", "route add default dev d0"], code: .kernel,
      text: "set up eth0 with 10.0.3.7: add route 0.0.0.0/0"),
    Obstacle(
      testDescription: "second interface's name taken", pod: ["link add mNicIf1 type bridge"], second: true,
      code: .interfaceExists, text: "mNicIf1 exists already"),
    Obstacle(
      testDescription: "second interface's route taken",
      pod: ["link add d0 type bridge", "link set d0 up", "route add default dev d0 table 1"], second: true,
      code: .kernel, text: "set up mNicIf1"),
  ]

  @Test(arguments: obstacles, [(HostRouting.table(.pods), false), (.perPodRules, false), (.table(.pods), true)])
  func failureLeavesNothing(_ obstacle: Obstacle, _ way: (routing: HostRouting, isPrepared: Bool)) throws {
    let fixture = try PodFixture()
    for line in obstacle.node { try fixture.node.ip(line) }
    for line in obstacle.pod { try fixture.pod.ip(line) }
    let before = try (fixture.nodeState(), fixture.pod.ip("-brief link show"))
    var interfaces = [try PodFixture.interface(table: RouteTable(3))]
    if obstacle.second {
      interfaces.append(
        try PodFixture.interface("10.1.3.7", host: "enibbbbbbbbbbb", pod: "mNicIf1", index: 1, table: RouteTable(4)))
    }
    let network = PodFixture.network(interfaces, mtu: obstacle.mtu, routing: way.routing)
    let error = #expect(throws: PodNetworkError.self) { try fixture.add(network, isPrepared: way.isPrepared) }
    #expect(error?.code == obstacle.code)
    #expect(error.map(CauseChain.text)?.contains(obstacle.text) == true, "\(error.map(CauseChain.text) ?? "")")
    #expect(try fixture.nodeState() == before.0)
    #expect(try fixture.pod.ip("-brief link show") == before.1)
  }

  /// A meta plugin may request a second network of a pod under another interface name: the first one must survive.
  @Test(arguments: [false, true])
  func secondNetworkOfAPodIsRefused(isPrepared: Bool) throws {
    let fixture = try PodFixture()
    try fixture.add(PodFixture.network([try PodFixture.interface()]))
    // Leave out the carrier of the links, which the kernel reports some time after they were set up.
    let state = {
      try [fixture.node, fixture.pod].map { namespace in
        let links = try Link.list(on: namespace.socket()).map { "\($0.index) \($0.name) \($0.isUp)" }
        return try links + [namespace.ip("rule show"), namespace.ip("-4 route show table all")]
      }
    }
    let before = try state()
    let second = try PodFixture.interface("10.0.3.8", pod: "net1")
    let error = #expect(throws: PodNetworkError.self) {
      try fixture.add(PodFixture.network([second]), isPrepared: isPrepared)
    }
    #expect(error?.code == .hasNetwork)
    #expect(error?.description.contains("is the other end of the pod's eth0") == true, "\(error?.description ?? "")")
    #expect(try state() == before)
    try fixture.check(try PodFixture.interface())
  }

  /// DEL removes what a killed ADD left in a namespace that still exists. It keeps wired veths and those of other pods.
  @Test func unfinishedVethIsRemoved() throws {
    let fixture = try PodFixture()
    let before = try (fixture.nodeState(), fixture.pod.ip("-brief link show"))
    let interface = try PodFixture.interface()
    let remove = { (suffix: String) in
      try fixture.node.run { [pod = fixture.pod] in
        try UnfinishedVeth.remove(
          podName: interface.podName, hostSuffix: suffix, pod: pod.socket(), host: NetlinkSocket())
      }
    }
    #expect(try !remove("0123456789a"), "nothing there")
    try fixture.node.run { [pod = fixture.pod, node = fixture.node] in
      _ = try PodVeth.make(
        hostName: interface.hostName, podName: interface.podName, mtu: 9001, pod: pod.socket(), host: NetlinkSocket(),
        node: node.namespace)
    }
    #expect(try !remove("bbbbbbbbbbb"), "another pod's")
    #expect(try remove("0123456789a"))
    #expect(try fixture.nodeState() == before.0)
    #expect(try fixture.pod.ip("-brief link show") == before.1)
    try fixture.add(PodFixture.network([interface]))
    #expect(try !remove("0123456789a"), "a pod that is wired")
  }

  struct Damage: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var node: [String] = []
    var pod: [String] = []
    let text: String
  }

  static let damages: [Damage] = [
    Damage(
      testDescription: "veth gone", node: ["link del eni0123456789a"], text: "host interface eni0123456789a is missing"),
    Damage(
      testDescription: "pod's end gone", node: ["link add eniother type bridge"],
      pod: [
        "link set eth0 down",
        "link set eth0 name ethX",
      ], text: "interface eth0 is missing in the pod"),
    Damage(
      testDescription: "host's end down", node: ["link set eni0123456789a down"],
      text: "host interface eni0123456789a is down"),
    Damage(testDescription: "pod's end down", pod: ["link set eth0 down"], text: "pod interface eth0 is down"),
    Damage(
      testDescription: "another pair",
      node: [
        "link set eni0123456789a down", "link set eni0123456789a name old", "link add eni0123456789a type veth",
        "link set eni0123456789a up",
      ], text: "are not the ends of one pair"),
    Damage(
      testDescription: "no veth", node: ["link del eni0123456789a", "link add eni0123456789a type bridge"],
      pod: ["link add eth0 type bridge"], text: "eni0123456789a is not a veth"),
    Damage(
      testDescription: "mtu", node: ["link set eni0123456789a mtu 1400"],
      text: "mtu is 1400 on eni0123456789a and 9001 on eth0"),
    Damage(
      testDescription: "address", pod: ["addr add 10.0.3.9/32 dev eth0", "addr del 10.0.3.7/32 dev eth0"],
      text: "address 10.0.3.7/32 is missing on eth0"),
    Damage(
      testDescription: "default route", pod: ["route del default"], text: "default route via 169.254.1.1 is missing"),
    Damage(
      testDescription: "gateway's route", pod: ["route flush table main", "route add default dev eth0"],
      text: "route to 169.254.1.1/32 is missing in the pod"),
    Damage(
      testDescription: "neighbour", pod: ["neigh del 169.254.1.1 dev eth0"],
      text: "permanent neighbour entry for 169.254.1.1 is missing"),
    Damage(
      testDescription: "neighbour's state",
      pod: ["neigh replace 169.254.1.1 lladdr 02:00:00:00:00:01 nud stale dev eth0"],
      text: "permanent neighbour entry for 169.254.1.1 is missing"),
    Damage(
      testDescription: "neighbour's address",
      pod: ["neigh replace 169.254.1.1 lladdr 02:00:00:00:00:01 nud permanent dev eth0"],
      text: "has 02:00:00:00:00:01 in place of"),
    Damage(
      testDescription: "host route", node: ["route del 10.0.3.7/32 table 20512"],
      text: "host route to 10.0.3.7 is missing in tables 20512 and 254"),
    Damage(
      testDescription: "host route elsewhere", node: ["route replace 10.0.3.7/32 dev ens5 table 20512"],
      text: "host route to 10.0.3.7 in table 20512 does not lead to eni0123456789a"),
    Damage(testDescription: "rule", node: ["rule del priority 512"], text: "rule 512: lookup 20512 is missing"),
    Damage(
      testDescription: "per-pod rules of a route in main",
      node: ["route del 10.0.3.7/32 table 20512", "route add 10.0.3.7/32 dev eni0123456789a"],
      text: "rule 512: to 10.0.3.7/32 lookup 254 is missing"),
  ]

  @Test(arguments: damages)
  func checkNames(_ damage: Damage) throws {
    let fixture = try PodFixture()
    let interface = try PodFixture.interface()
    try fixture.add(PodFixture.network([interface]))
    try fixture.check(interface)
    for line in damage.node { try fixture.node.ip(line) }
    for line in damage.pod { try fixture.pod.ip(line) }
    let error = #expect(throws: PodNetworkError.self) { try fixture.check(interface) }
    #expect(error?.code == .differs)
    #expect(error?.description.contains(damage.text) == true, "\(error?.description ?? "")")
  }

  @Test func removeIsIdempotentAndCareful() throws {
    let fixture = try PodFixture()
    let before = try fixture.nodeState()
    #expect(try fixture.remove() == .alreadyGone)
    try fixture.add(PodFixture.network([try PodFixture.interface()]))
    // Another pod has the address by now.
    #expect(try fixture.remove(suffix: "99999999999") == .foreign("eni0123456789a"))
    try fixture.check(try PodFixture.interface())
    // As with amazon-vpc-cni-k8s's agent, DEL leaves the veth: it disappears together with the namespace.
    #expect(try fixture.remove(veth: false) == .removed)
    #expect(try fixture.node.ip("link show").contains("eni0123456789a"))
    #expect(try fixture.node.ip("route show table 20512").isEmpty)
    #expect(try fixture.remove(veth: false) == .alreadyGone)
    try fixture.node.ip("link del eni0123456789a")
    #expect(try fixture.nodeState() == before)
  }

  @Test func branchRemainsAreRemoved() throws {
    let node = try PodFixture.makeNode()
    let before = try PodFixture.nodeState(node)
    for line in [
      "link add vlan.eth.7 type bridge", "rule add priority 10 iif vlan.eth.7 lookup 107",
      "rule add priority 10 iif vlan0123456789a lookup 107", "rule add priority 512 to 10.0.3.7 lookup main",
      "rule add priority 1536 from 10.0.3.7 lookup 107", "rule add priority 10 iif other lookup 108",
    ] { try node.ip(line) }
    let remains = HostRemains(
      address: try #require(IPAddress("10.0.3.7")), vethSuffix: "0123456789a", eniTable: RouteTable(107),
      deletesVeth: false)
    for _ in 0..<2 { try node.run { try remains.removeBranch(vlan: 7, on: try NetlinkSocket()) } }
    #expect(try node.ip("rule show").contains("iif other"), "another VLAN's")
    try node.ip("rule del priority 10")
    #expect(try PodFixture.nodeState(node) == before)
  }
}

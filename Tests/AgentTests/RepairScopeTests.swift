// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import AgentMode
@testable import VPCLinux

/// What the kernel's notifications lead to: a look at what may be missing, but not at the work of plugins and agent.
@Suite struct RepairScopeTests {
  // Texts that are known to be valid.
  static let eni = sound(ENIID("eni-1"))
  static let primary = sound(ENIID("eni-0"))
  static let pod = IPAddress(ipv4: 0x0a00_0107)
  static let veth: UInt32 = 40
  static let mac = MACAddress(bits: 0x0200_0000_0001)

  static func sound<Value>(_ value: Value?) -> Value {
    guard let value else { preconditionFailure("a text of this test is not sound") }
    return value
  }

  static func link(
    _ index: UInt32, _ name: String, mac: MACAddress? = mac, up: Bool = true, kind: String? = "veth"
  ) -> Link {
    Link(
      index: index, name: name, mac: mac, mtu: 9001, isUp: up, hasCarrier: up, isLoopback: false, kind: kind,
      peerIndex: nil, peerNamespaceID: nil)
  }

  static func known(_ routing: HostRouting = .table(.pods), fresh: Set<UInt32> = []) -> RepairScope.Known {
    var veths = PodVeths(prefix: "eni")
    veths.see(link(veth, "eni0123456789a"))
    return RepairScope.Known(
      eniLinks: [3: eni, 2: primary], eniTables: [RouteTable(2): eni], secondary: [eni], veths: veths,
      fresh: fresh, routing: routing)
  }

  static func scope(_ events: [NetlinkMonitor.Event], _ known: RepairScope.Known = known()) -> RepairScope {
    var changes = NodeChanges()
    for event in events { changes.add(NetlinkMonitor.Notice(event: event, port: 7)) }
    return RepairScope(changes, known)
  }

  static func rule(_ priority: UInt32, from: IPAddress? = nil, to: IPAddress? = nil, table: RouteTable) -> PolicyRule {
    PolicyRule(
      family: .ipv4, priority: priority, from: from.map { IPPrefix(single: $0) }, to: to.map { IPPrefix(single: $0) },
      table: table)
  }

  static func route(_ table: RouteTable, device: UInt32 = veth, to: IPAddress = pod) -> Route {
    Route(to: IPPrefix(single: to), table: table, device: device)
  }

  @Test func aPodsStartAndEndBringNoLook() {
    let start: [NetlinkMonitor.Event] = [
      .link(Self.link(41, "eni1123456789a", up: false), isRemoved: false),
      .link(Self.link(41, "eni1123456789a"), isRemoved: false),
      .route(Self.route(.pods, device: 41), isRemoved: false),
    ]
    // Like the agent, the test knows the link from this same batch.
    var known = Self.known(fresh: [41])
    known.veths.see(Self.link(41, "eni1123456789a", up: false))
    #expect(Self.scope(start, known) == .nothing)
    let end: [NetlinkMonitor.Event] = [.link(Self.link(Self.veth, "eni0123456789a", up: false), isRemoved: true)]
    #expect(Self.scope(end) == .nothing)
    // With the routing scheme of one rule per pod.
    let rules: [NetlinkMonitor.Event] = [
      .rule(Self.rule(512, to: Self.pod, table: .main), isRemoved: false),
      .rule(Self.rule(1536, from: Self.pod, table: RouteTable(2)), isRemoved: false),
      .route(Self.route(.main), isRemoved: false),
    ]
    #expect(Self.scope(rules, Self.known(.perPodRules)) == .nothing)
  }

  @Test func whatOthersDoWithTheirOwnBringsNoLook() {
    #expect(
      Self.scope([
        .rule(Self.rule(30200, from: Self.pod, table: RouteTable(30200)), isRemoved: false),
        .route(Self.route(RouteTable(30200), device: 2), isRemoved: true),
        .link(Self.link(90, "docker0", kind: "bridge"), isRemoved: false),
        .address(InterfaceAddress(Self.pod, on: 90), isRemoved: false), .setting(link: 90),
      ]) == .nothing)
    var changes = NodeChanges()
    for chain in ["KUBE-SVC-1", "KUBE-SERVICES"] {
      changes.add(NftablesMonitor.Notice(event: .chain(chain, table: "nat", family: .ipv4), port: 9))
    }
    changes.add(NftablesMonitor.Notice(event: .table("kube-proxy", family: .ipv4), port: 9))
    #expect(RepairScope(changes, Self.known()) == .nothing)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let event: NetlinkMonitor.Event
    var routing = HostRouting.table(.pods)
    let wanted: @Sendable (inout RepairScope) -> Void
  }

  @Test(arguments: [
    Case(testDescription: "rule 512 gone", event: .rule(rule(512, table: .pods), isRemoved: true)) {
      $0.rules = true
      $0.allENIs = true
    },
    Case(testDescription: "the kernel's rule gone", event: .rule(rule(32766, table: .main), isRemoved: true)) {
      $0.rules = true
      $0.allENIs = true
    },
    Case(
      testDescription: "an ENI's rule gone", event: .rule(rule(32765, from: pod, table: RouteTable(2)), isRemoved: true)
    ) {
      $0.rules = true
      $0.allENIs = true
    },
    Case(
      testDescription: "a pod's rule gone", event: .rule(rule(1536, from: pod, table: RouteTable(2)), isRemoved: true),
      routing: .perPodRules
    ) { $0.pods = [pod] },
    Case(testDescription: "a pod's route gone", event: .route(route(.pods), isRemoved: true)) { $0.pods = [pod] },
    Case(
      testDescription: "a pod's route in main gone", event: .route(route(.main), isRemoved: true), routing: .perPodRules
    ) { $0.pods = [pod] },
    Case(testDescription: "a pod's route led elsewhere", event: .route(route(.pods, device: 2), isRemoved: false)) {
      $0.pods = [pod]
    },
    Case(testDescription: "the other plugin's route", event: .route(route(.main), isRemoved: false)) {
      $0.pods = [pod]
    },
    Case(testDescription: "an ENI's route gone", event: .route(route(RouteTable(2), device: 3), isRemoved: true)) {
      $0.enis = [eni]
    },
    Case(testDescription: "a secondary ENI's route in main", event: .route(route(.main, device: 3), isRemoved: false)) {
      $0.enis = [eni]
    },
    Case(testDescription: "an ENI's address", event: .address(InterfaceAddress(pod, on: 3), isRemoved: true)) {
      $0.enis = [eni]
    },
    Case(testDescription: "an ENI's setting", event: .setting(link: 3)) { $0.enis = [eni] },
    Case(testDescription: "an ENI's link", event: .link(link(3, "ens6", kind: nil), isRemoved: false)) {
      $0.enis = [eni]
    },
    Case(
      testDescription: "a veth's MAC",
      event: .link(link(veth, "eni0123456789a", mac: MACAddress("02:00:00:00:00:99")), isRemoved: false)
    ) { $0.veths = [veth] },
    Case(testDescription: "a veth down", event: .link(link(veth, "eni0123456789a", up: false), isRemoved: false)) {
      $0.veths = [veth]
    },
    Case(testDescription: "notices lost", event: .lost) { $0 = .everything },
  ])
  func whatMayBeMissingIsLookedAt(_ test: Case) {
    var wanted = RepairScope.nothing
    test.wanted(&wanted)
    #expect(Self.scope([test.event], Self.known(test.routing)) == wanted)
  }

  @Test func nftablesBringsALookAtItsOwnPart() {
    var changes = NodeChanges()
    changes.add(NftablesMonitor.Notice(event: .table("vpc-cni", family: .ipv4), port: 9))
    #expect(RepairScope(changes, Self.known()).sourceMap && !RepairScope(changes, Self.known()).hostRules)
    for (chain, table) in [("PREROUTING", "mangle"), ("AWS-SNAT-CHAIN-0", "nat"), ("nat-prerouting", "aws-cni")] {
      var changes = NodeChanges()
      changes.add(NftablesMonitor.Notice(event: .chain(chain, table: table, family: .ipv4), port: 9))
      #expect(RepairScope(changes, Self.known()).hostRules, "\(chain) of \(table)")
    }
  }

  /// udev acts at once: the change is among the first notifications about the link.
  @Test func aMACChangedRightAtTheStartIsSeen() {
    var changes = NodeChanges()
    let other = MACAddress("02:00:00:00:00:99")
    for link in [Self.link(41, "eni1123456789a", up: false), Self.link(41, "eni1123456789a", mac: other)] {
      changes.add(NetlinkMonitor.Notice(event: .link(link, isRemoved: false), port: 0))
    }
    var known = Self.known()
    known.fresh = known.veths.follow(changes)
    #expect(known.fresh == [41] && known.veths[41]?.mac == Self.mac)
    #expect(RepairScope(changes, known).veths == [41])
  }

  @Test func veths() {
    var veths = PodVeths(prefix: "eni")
    veths.see(all: [
      Self.link(1, "eni0123456789a"), Self.link(2, "enio123456789abc"), Self.link(3, "eth0", kind: nil),
      Self.link(4, "vlan0123456789"), Self.link(5, "eni0123456789b", kind: "vlan"),
    ])
    #expect(veths.count == 1 && veths.index(suffix: "0123456789a") == 1)
    // A pod that is recreated under its name has another link; the removal of the old link must not forget the new one.
    veths.see(Self.link(9, "eni0123456789a"))
    veths.forget(1)
    #expect(veths.index(suffix: "0123456789a") == 9 && veths.contains(9) && !veths.contains(1))
    veths.see(all: [])
    #expect(veths.count == 0 && veths.index(suffix: "0123456789a") == nil)
  }
}

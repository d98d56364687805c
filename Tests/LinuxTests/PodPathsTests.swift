// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCLinux

/// What the host must hold for pods in both schemes, and what of the other scheme may be removed.
@Suite struct PodPathsTests {
  static let address = IPAddress(ipv4: 0x0a00_0107)
  static let other = IPAddress(ipv4: 0x0a00_0108)
  static let mac = MACAddress(bits: 0x0200_0000_0001)
  static let table = RouteTable(2)
  static let pod = PodPaths.Pod(address: address, veth: 40, mac: mac, eniTable: table)

  static func link(_ index: UInt32 = 40, mac: MACAddress? = mac, up: Bool = true, kind: String? = "veth") -> Link {
    Link(
      index: index, name: "eni0123456789a", mac: mac, mtu: 9001, isUp: up, hasCarrier: up, isLoopback: false,
      kind: kind,
      peerIndex: nil, peerNamespaceID: nil)
  }

  static func route(_ table: RouteTable, to address: IPAddress = address, device: UInt32 = 40) -> Route {
    Route(to: IPPrefix(single: address), table: table, device: device)
  }

  static let rules = PodRules.rules(pod: address, table: table)

  static func sight(links: [Link] = [link()], rules: [PolicyRule] = [], routes: [Route] = []) -> PodPaths.Sight {
    PodPaths.Sight(
      links: Dictionary(uniqueKeysWithValues: links.map { ($0.index, $0) }), rules: rules, routes: routes)
  }

  static let constant = PodPaths(routing: .table(.pods), pods: [pod])
  static let perPod = PodPaths(routing: .perPodRules, pods: [pod])

  static func faults(_ paths: PodPaths, _ sight: PodPaths.Sight) -> [String] {
    (paths.faults(in: sight)[address] ?? []).map(\.description)
  }

  @Test func aPodThatIsWholeLacksNothing() {
    #expect(Self.faults(Self.constant, Self.sight(routes: [Self.route(.pods)])).isEmpty)
    #expect(Self.faults(Self.perPod, Self.sight(rules: Self.rules, routes: [Self.route(.main)])).isEmpty)
  }

  @Test func eachLossIsTold() {
    #expect(Self.faults(Self.constant, Self.sight()) == ["no route 10.0.1.7/32 dev 40 table 20512"])
    #expect(
      Self.faults(Self.constant, Self.sight(routes: [Self.route(.pods, device: 2)]))
        == ["no route 10.0.1.7/32 dev 40 table 20512"])
    #expect(
      Self.faults(Self.perPod, Self.sight(routes: [Self.route(.pods)])) == [
        "no route 10.0.1.7/32 dev 40 table 254", "no rule 512: to 10.0.1.7/32 lookup 254",
        "no rule 1536: from 10.0.1.7/32 lookup 2",
      ])
    #expect(
      Self.faults(
        Self.constant, Self.sight(links: [Self.link(mac: nil, up: false)], routes: [Self.route(.pods)]))
        == ["link 40 has the address none, not 02:00:00:00:00:01", "link 40 is down"])
  }

  @Test func aRouteThatIsThereIsReplacedAndAMissingOneOnlyAdded() {
    let replaced = Self.constant.faults(in: Self.sight(routes: [Self.route(.pods, device: 2)]))[Self.address]
    #expect(replaced == [.missingRoute(Self.route(.pods))])
    #expect(Self.constant.faults(in: Self.sight())[Self.address] == [.missingPodRoute(Self.route(.pods))])
  }

  @Test func aPodWhoseVethIsGoneHasEnded() {
    #expect(Self.constant.faults(in: Self.sight(links: [])).isEmpty)
    #expect(Self.constant.faults(in: Self.sight(links: [Self.link(kind: "vlan")])).isEmpty)
  }

  @Test func withoutItsENIAPodHasTheRuleToItAlone() {
    var pod = Self.pod
    pod.eniTable = nil
    let paths = PodPaths(routing: .perPodRules, pods: [pod])
    #expect(paths.rules(of: pod).map(\.description) == ["512: to 10.0.1.7/32 lookup 254"])
  }

  static func leftovers(
    _ paths: PodPaths, _ sight: PodPaths.Sight, ours: Set<IPAddress> = [address, other], stands: Bool = true
  ) -> [String] {
    paths.leftovers(
      in: sight, isOurs: ours.contains, stands: { _ in stands }, isVeth: { $0 == 40 || $0 == 41 }
    ).map { $0.description }
  }

  @Test func theOtherSchemesPartGoesOnceThePodStandsWithoutIt() {
    let both = Self.sight(rules: Self.rules, routes: [Self.route(.pods), Self.route(.main)])
    #expect(
      Self.leftovers(Self.constant, both) == [
        "rule 512: to 10.0.1.7/32 lookup 254 should not be there",
        "rule 1536: from 10.0.1.7/32 lookup 2 should not be there",
        "route 10.0.1.7/32 dev 40 table 254 should not be there",
      ])
    #expect(Self.leftovers(Self.constant, both, stands: false).isEmpty)
    #expect(Self.leftovers(Self.perPod, both) == ["route 10.0.1.7/32 dev 40 table 20512 should not be there"])
    #expect(Self.leftovers(Self.perPod, both, stands: false).isEmpty)
  }

  @Test func whatAPodThatEndedLeftGoes() {
    let stale = Self.sight(
      rules: PodRules.rules(pod: Self.other, table: RouteTable(3)),
      routes: [Self.route(.main, to: Self.other, device: 41)])
    #expect(Self.leftovers(Self.constant, stale).count == 3)
    // In the per-pod scheme, the pod's route in main does not belong to the other scheme; only the rules are removed.
    #expect(Self.leftovers(Self.perPod, stale).count == 2)
    // A rule of an earlier pod with the same address points to another ENI.
    let wrong = Self.sight(rules: Self.rules + [PodRules.rules(pod: Self.address, table: RouteTable(3))[1]])
    #expect(Self.leftovers(Self.perPod, wrong) == ["rule 1536: from 10.0.1.7/32 lookup 3 should not be there"])
  }

  @Test func whatIsNotOursStays() {
    let foreign = Self.sight(
      rules: Self.rules + [PolicyRule(family: .ipv4, priority: 1536, mark: .primary, table: Self.table)],
      routes: [Self.route(.main, device: 3)])
    #expect(Self.leftovers(Self.constant, foreign, ours: []).isEmpty)
    #expect(Self.leftovers(Self.constant, foreign).count == 2, "neither a rule by mark nor a route by no veth")
  }
}

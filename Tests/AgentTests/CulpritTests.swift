// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux

@testable import AgentMode
@testable import VPCModel

/// Which program probably made a change.
@Suite struct CulpritTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let evidence: Culprit.Evidence
    /// How the text begins; nil if no program is named.
    let wanted: String?
    var testDescription: String { "\(wanted ?? "nobody")" }
  }

  @Test(arguments: [
    Case(evidence: .init(kinds: [.rule]), wanted: nil),
    Case(evidence: .init(kinds: [.nftables], programs: ["nft"]), wanted: "nft"),
    Case(evidence: .init(kinds: [.iptables, .nftables], programs: ["firewalld"]), wanted: "firewalld"),
    Case(evidence: .init(kinds: [.iptables], programs: ["somethingelse"]), wanted: "somethingelse"),
    Case(evidence: .init(kinds: [.rule], programs: ["kube-proxy"]), wanted: nil),
    Case(evidence: .init(kinds: [.iptables], running: ["kube-proxy", "systemd-network"]), wanted: "kube-proxy"),
    Case(
      evidence: .init(kinds: [.rule, .route], running: ["systemd-network"]), wanted: "systemd-networkd: set Manage"),
    Case(evidence: .init(kinds: [.rule], running: ["systemd-network"], lostMainRule: true), wanted: "`ip rule flush`"),
    Case(
      evidence: .init(kinds: [.address], running: ["NetworkManager"], showsCloudSetup: true), wanted: "nm-cloud-setup"),
    Case(evidence: .init(kinds: [.route], senders: ["dhclient"], running: ["systemd-network"]), wanted: "dhclient"),
    Case(evidence: .init(kinds: [.mac], running: ["systemd-udevd", "systemd-network"]), wanted: "systemd-udevd"),
  ])
  func isGuessedFromTraces(_ test: Case) {
    let found = Culprit.likely(test.evidence)
    #expect(test.wanted == nil ? found == nil : found?.hasPrefix(test.wanted ?? "") ?? false, "\(found ?? "nobody")")
  }

  @Test func cloudSetupIsKnownByItsNumbers() {
    for (priority, table, wanted) in [
      (30200, 30200, true), (30401, 30401, true), (30350, 254, false), (512, 30200, false),
    ] {
      let rule = PolicyRule(family: .ipv4, priority: UInt32(priority), table: RouteTable(UInt32(table)))
      #expect(Culprit.isCloudSetup(rule) == wanted)
    }
  }

  @Test func ofTwoSandboxesOfOnePodTheLaterOneLives() {
    func assignment(_ container: String, _ address: UInt32, at time: Int64, pod: PodName) -> Assignment {
      Assignment(
        key: PoolFixture.key(container), pod: pod, address: IPAddress(ipv4: address), eni: ENIID("eni-1"), device: 1,
        card: 0, routeTable: RouteTable(2), assignedUnixNanoseconds: time, interfacesCount: 1, isNew: false)
    }
    let (web, none) = (PodName(namespace: "default", name: "web-0"), PodName(namespace: "", name: ""))
    let living = PodHolder.living([
      assignment("new", 2, at: 20, pod: web), assignment("old", 1, at: 10, pod: web),
      assignment("a", 3, at: 1, pod: none), assignment("b", 4, at: 1, pod: none),
    ])
    #expect(living.map(\.address).sorted() == [2, 3, 4].map { IPAddress(ipv4: $0) })
    #expect(living.count { $0.vethSuffix == nil } == 2)
  }
}

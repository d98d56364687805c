// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Testing
import VPCLinux
import VPCModel

/// The decisions about firewall rules: settings and what is there in, what is to be written out.
@Suite struct FirewallRulesTests {
  static let plain = HostRules(
    primaryAddress: IPAddress("10.0.0.4")!, primaryInterface: "eth0", vpcCIDRs: [IPPrefix("10.0.0.0/16")!],
    connmarkBackend: .nftables)

  static let snat =
    #"-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL "#
    + "-j SNAT --to-source 10.0.0.4 --random-fully"
  static let inside = #"-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN"#
  static let jump = #"-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0"#
  static let inPlace = ["*nat", ":POSTROUTING ACCEPT [0:0]", ":AWS-SNAT-CHAIN-0 - [0:0]", jump, inside, snat, "COMMIT"]

  static func restored(_ plan: IptablesPlan, _ lines: [String]) -> [String]? {
    let table = IptablesTable(name: plan.table, saveText: lines.joined(separator: "\n") + "\n")
    return plan.restoreText(present: table)?.split(separator: "\n").map(String.init)
  }

  @Test func anEmptyTableIsFilled() {
    #expect(
      Self.restored(Self.plain.nat, [])
        == ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", Self.inside, Self.snat, Self.jump, "COMMIT"])
  }

  @Test(arguments: [
    inPlace,
    // Other tables, counters, comments and rules of others make no difference.
    ["# Generated", "*filter", "-A FORWARD -j DROP", "COMMIT"] + inPlace,
    inPlace.map { $0.hasPrefix("-A") ? "[12:3456] " + $0 : $0 },
    inPlace.dropLast() + ["-A PREROUTING -j KUBE-SERVICES", "-A POSTROUTING -j MASQUERADE", "COMMIT"],
  ])
  func whatIsInPlaceIsLeft(_ lines: [String]) { #expect(Self.restored(Self.plain.nat, lines) == nil) }

  struct Difference: Sendable {
    let name: String
    let present: [String]
    let written: [String]
  }

  static let differences = [
    Difference(
      name: "a stale destination", present: inPlace.dropLast() + [inside.replacing("10.0.", with: "10.9."), "COMMIT"],
      written: [":AWS-SNAT-CHAIN-0 - [0:0]", inside, snat]),
    Difference(
      name: "SNAT is not last", present: ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", jump, snat, inside, "COMMIT"],
      written: [":AWS-SNAT-CHAIN-0 - [0:0]", inside, snat]),
    Difference(
      name: "no jump", present: inPlace.filter { $0 != jump }, written: [jump]),
    Difference(
      name: "two jumps", present: inPlace.dropLast() + [jump, "COMMIT"],
      written: [jump, jump].map { "-D" + $0.dropFirst(2) } + [jump]),
    Difference(
      name: "an old chain",
      present: inPlace.dropLast()
        + [
          ":AWS-SNAT-CHAIN-7 - [0:0]", "-A AWS-SNAT-CHAIN-7 -j RETURN", "-A POSTROUTING -j AWS-SNAT-CHAIN-7", "COMMIT",
        ],
      written: [
        ":AWS-SNAT-CHAIN-7 - [0:0]", "-D" + jump.dropFirst(2), "-D POSTROUTING -j AWS-SNAT-CHAIN-7", jump,
        "-X AWS-SNAT-CHAIN-7",
      ]),
    Difference(
      name: "an old chain that a foreign rule leads to stays, empty",
      present: inPlace.dropLast()
        + [":AWS-SNAT-CHAIN-7 - [0:0]", "-A AWS-SNAT-CHAIN-7 -j RETURN", "-A MINE -j AWS-SNAT-CHAIN-7", "COMMIT"],
      written: [":AWS-SNAT-CHAIN-7 - [0:0]"]),
    Difference(
      name: "connmark of the other backend",
      present: inPlace.dropLast()
        + [
          ":AWS-CONNMARK-CHAIN-0 - [0:0]", "-A PREROUTING -i eni+ -j AWS-CONNMARK-CHAIN-0",
          #"-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"#,
          "COMMIT",
        ],
      written: [
        ":AWS-CONNMARK-CHAIN-0 - [0:0]", "-D PREROUTING -i eni+ -j AWS-CONNMARK-CHAIN-0",
        #"-D PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"#,
        "-X AWS-CONNMARK-CHAIN-0",
      ]),
    Difference(
      name: "a chain of another's that begins like ours",
      present: inPlace.filter { $0 != jump }.dropLast()
        + [":AWS-SNAT-CHAIN-MINE - [0:0]", "-A POSTROUTING -j AWS-SNAT-CHAIN-MINE", "COMMIT"], written: [jump]),
  ]

  @Test(arguments: differences) func whatDiffersIsWritten(_ difference: Difference) {
    let written = Self.restored(Self.plain.nat, difference.present)
    #expect(written == ["*nat"] + difference.written + ["COMMIT"], "\(difference.name)")
  }

  @Test func settingsAreSeenInTheRules() {
    var rules = Self.plain
    rules.externalSNAT = true
    #expect(
      Self.restored(rules.nat, Self.inPlace)
        == ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", "-D" + Self.jump.dropFirst(2), "COMMIT"])
    #expect(Self.restored(rules.nat, []) == ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", "COMMIT"])
    #expect(rules.connmarkTable == nil)
    #expect(rules.mangle.rules.count == 3)
    rules.nodePortSupport = false
    #expect(rules.mangle.rules.isEmpty)
    rules.externalSNAT = false
    #expect(rules.mangle.rules.map { $0.value(of: "-i") } == ["eni+"])
    rules.randomization = .hashed
    #expect(rules.nat.chains["AWS-SNAT-CHAIN-0"]?.last?.last == "--random")
    rules.randomization = .none
    #expect(rules.nat.chains["AWS-SNAT-CHAIN-0"]?.last?.last == "10.0.0.4")
    rules.excludedCIDRs = [IPPrefix("0.0.0.0/0")!, IPPrefix("10.0.0.0/16")!]
    #expect(
      rules.nat.chains["AWS-SNAT-CHAIN-0"]?[1]
        == ["-m", "comment", "--comment", "AWS SNAT CHAIN EXCLUSION", "-j", "RETURN"])
    #expect(rules.nat.chains["AWS-SNAT-CHAIN-0"]?.count == 3)
  }

  @Test func wordsAreQuotedAsIptablesSaveDoes() {
    for words in [["-m", "comment", "--comment", #"a "b" \ 'c' ü"#], ["--comment", ""], ["!", "-o", "vlan+"]] {
      let rule = IptablesRule("C", words)
      #expect(IptablesTable(name: "nat", saveText: "*nat\n\(rule.line("-A"))\n").rules == [rule])
    }
    #expect(IptablesTable(name: "nat", saveText: "*nat\n-A C --comment \"open\n-A D -j X\n").rules.count == 1)
  }

  @Test func rubbishInAListIsReportedAndTheRestUsed() {
    let list = CIDRList([
      " 10.0.0.7/16 ", "", "10.0.0.0/16", "10.0.0.0", "fd00::/8", "1.2.3.4/33", "a\u{0}b", "172.16.0.0/12",
    ])
    #expect(list.prefixes.map(\.description) == ["10.0.0.0/16", "172.16.0.0/12"])
    #expect(list.rejected.map(\.reason) == ["not a prefix", "not IPv4", "not a prefix", "not a prefix"])
    let many = CIDRList((0..<300).map { "10.\($0 / 256).\($0 % 256).0/24" })
    #expect(many.prefixes.count == 200)
    #expect(many.rejected.count == 100)
    #expect(CIDRList([String(repeating: "x", count: 10_000)]).rejected.first?.text.count == 60)
  }

  typealias Evidence = IptablesBackend.Evidence

  @Test(
    arguments: [
      (Evidence(), nil),
      (Evidence(nftMangle: "", legacy: ""), .nft),
      (Evidence(nftMangle: nil, legacy: ""), .legacy),
      (Evidence(nftMangle: "", legacy: nil), .nft),
      (Evidence(nftMangle: ":KUBE-IPTABLES-HINT - [0:0]\n", legacy: ":KUBE-KUBELET-CANARY - [0:0]\n"), .nft),
      (
        Evidence(nftMangle: ":OTHER - [0:0]\n-A OTHER -j X\n", legacy: "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\n"),
        .legacy
      ),
      (Evidence(nftMangle: "-A a\n-A b\n", legacy: "-A a\n"), .nft),
      (Evidence(nftMangle: "-A a\n", legacy: "-A a\n-A b\n"), .legacy),
      (Evidence(nftMangle: "# :KUBE-IPTABLES-HINT \n", legacy: "-A a\n"), .legacy),
    ] as [(Evidence, IptablesBackend?)])
  func theBackendFollowsKubelet(_ evidence: Evidence, _ backend: IptablesBackend?) {
    #expect(IptablesBackend.choose(evidence) == backend)
  }
}

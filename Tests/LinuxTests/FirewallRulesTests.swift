// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Testing
import VPCLinux
import VPCModel

/// The decisions about firewall rules: from the settings and the existing rules to what must be written.
@Suite struct FirewallRulesTests {
  static let plain = HostRules(
    primaryAddress: IPAddress("10.0.0.4")!, primaryInterface: "eth0", vpcCIDRs: [IPPrefix("10.0.0.0/16")!],
    connmarkBackend: .nftables)

  static let snat =
    #"-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL "#
    + "-j SNAT --to-source 10.0.0.4 --random-fully"
  static let own =
    #"-A AWS-SNAT-CHAIN-0 ! -o eth0 -m comment --comment "AWS SNAT CHAIN, own address" -m addrtype "#
    + "--src-type LOCAL --limit-iface-out -j RETURN"
  static let inside = #"-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN"#
  static let jump = #"-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0"#
  static let inPlace = [
    "*nat", ":POSTROUTING ACCEPT [0:0]", ":AWS-SNAT-CHAIN-0 - [0:0]", jump, inside, own, snat, "COMMIT",
  ]

  static func restored(_ plan: IptablesPlan, _ lines: [String]) -> [String]? {
    let table = IptablesTable(name: plan.table, saveText: lines.joined(separator: "\n") + "\n")
    return plan.restoreText(present: table)?.split(separator: "\n").map(String.init)
  }

  @Test func anEmptyTableIsFilled() {
    #expect(
      Self.restored(Self.plain.nat, [])
        == ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", Self.inside, Self.own, Self.snat, Self.jump, "COMMIT"])
  }

  @Test(arguments: [
    inPlace,
    // Other tables, counters, comments and rules of other programs make no difference.
    ["# Generated", "*filter", "-A FORWARD -j DROP", "COMMIT"] + inPlace,
    inPlace.map { $0.hasPrefix("-A") ? "[12:3456] " + $0 : $0 },
    inPlace.dropLast() + ["-A PREROUTING -j KUBE-SERVICES", "-A POSTROUTING -j MASQUERADE", "COMMIT"],
  ])
  func whatIsInPlaceIsLeft(_ lines: [String]) { #expect(Self.restored(Self.plain.nat, lines) == nil) }

  static let outside = #"-A AWS-SNAT-CHAIN-0 -d 10.9.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN"#
  static let unmarked =
    #"-A AWS-SNAT-CHAIN-0 -m connmark ! --mark 0x80/0x80 -m comment --comment "AWS, not marked" -j RETURN"#

  struct Crossing: Sendable {
    let name: String
    var rules = FirewallRulesTests.plain
    let present: [String]
    /// The rules in place between the old and the new ones; nil if there is no intermediate step.
    let between: [String]?
  }

  static func rules(_ change: (inout HostRules) -> Void) -> HostRules {
    var rules = plain
    change(&rules)
    return rules
  }

  static let crossings = [
    Crossing(name: "the same destinations", present: inPlace, between: nil),
    Crossing(name: "the first writing", present: [], between: nil),
    Crossing(
      name: "one more", rules: rules { $0.vpcCIDRs.append(IPPrefix("10.9.0.0/16")!) }, present: inPlace,
      between: [inside, unmarked, own, snat]),
    Crossing(
      name: "one less", present: inPlace.dropLast() + [outside, "COMMIT"], between: [inside, unmarked, own, snat]),
    Crossing(
      name: "another one", rules: rules { $0.vpcCIDRs = [IPPrefix("10.9.0.0/16")!] }, present: inPlace,
      between: [unmarked, own, snat]),
    Crossing(
      name: "everything excluded", rules: rules { $0.excludedCIDRs = [IPPrefix("0.0.0.0/0")!] }, present: inPlace,
      between: [inside, unmarked, own, snat]),
    Crossing(
      name: "an excluded one becomes the VPC's",
      rules: rules { $0.vpcCIDRs.append(IPPrefix("10.9.0.0/16")!) },
      present: inPlace.dropLast() + [outside.replacing("CHAIN\" -j", with: "CHAIN EXCLUSION\" -j"), "COMMIT"],
      between: nil),
    Crossing(
      name: "marks in iptables come and go with it", rules: rules { $0.connmarkBackend = .iptables },
      present: inPlace.dropLast() + [outside, "COMMIT"], between: nil),
    Crossing(
      name: "marks were in iptables until now",
      present: inPlace.dropLast() + [":AWS-CONNMARK-CHAIN-0 - [0:0]", outside, "COMMIT"], between: nil),
    Crossing(
      name: "translation ends", rules: rules { $0.externalSNAT = true },
      present: inPlace.dropLast() + [outside, "COMMIT"], between: [inside, outside, unmarked, own, snat]),
    Crossing(
      name: "none then and now", rules: rules { $0.externalSNAT = true },
      present: ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", "COMMIT"], between: nil),
    Crossing(
      name: "translation begins", rules: rules { $0.vpcCIDRs.append(IPPrefix("10.9.0.0/16")!) },
      present: ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", "COMMIT"], between: [inside, outside, unmarked, own, snat]),
  ]

  @Test(arguments: crossings)
  func destinationsThatChangeAreCrossedByTheMark(_ crossing: Crossing) {
    let table = IptablesTable(name: "nat", saveText: crossing.present.joined(separator: "\n") + "\n")
    let bridge = crossing.rules.bridge(from: table)
    let lines = bridge?.chains["AWS-SNAT-CHAIN-0"]?.map { IptablesRule("AWS-SNAT-CHAIN-0", $0).line("-A") }
    #expect(lines == crossing.between, "\(crossing.name)")
    #expect(bridge == nil || bridge?.rules == Self.plain.nat.rules, "\(crossing.name)")
  }

  struct Difference: Sendable {
    let name: String
    let present: [String]
    let written: [String]
  }

  static let differences = [
    Difference(
      name: "a stale destination", present: inPlace.dropLast() + [inside.replacing("10.0.", with: "10.9."), "COMMIT"],
      written: [":AWS-SNAT-CHAIN-0 - [0:0]", inside, own, snat]),
    Difference(
      name: "SNAT is not last", present: ["*nat", ":AWS-SNAT-CHAIN-0 - [0:0]", jump, snat, own, inside, "COMMIT"],
      written: [":AWS-SNAT-CHAIN-0 - [0:0]", inside, own, snat]),
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
    #expect(rules.nat.chains["AWS-SNAT-CHAIN-0"]?.count == 4)
  }

  static let guardLine =
    #"FORWARD -d 169.254.172.0/22 -m conntrack --ctstate NEW -m comment --comment "Block Node Local Pod access via IPv4" "#
    + "-j REJECT --reject-with icmp-port-unreachable"

  /// The agent of an IPv6 cluster has one rule, before all others.
  @Test func nodeLocalPodsAreGuarded() {
    let guarded = Self.rules { $0.blocksNodeLocalPods = true }
    let others = ["*filter", ":FORWARD ACCEPT [0:0]", "-A FORWARD -j KUBE-FORWARD", "COMMIT"]
    #expect(Self.restored(guarded.filter, others) == ["*filter", "-I " + Self.guardLine, "COMMIT"])
    let inPlace = ["*filter", "-A FORWARD -j KUBE-FORWARD", "-A " + Self.guardLine, "COMMIT"]
    #expect(Self.restored(guarded.filter, inPlace) == nil, "its place is not fought for")
    #expect(Self.restored(Self.plain.filter, inPlace) == ["*filter", "-D " + Self.guardLine, "COMMIT"])
    #expect(Self.restored(Self.plain.filter, others) == nil)
    let save = IptablesSave(inPlace.joined(separator: "\n") + "\n")
    #expect(save.ownedObjects == 1 && save.foreignRules == 1 && save.table("filter").rules.count == 1)
    #expect(guarded.substituteTable?.chains["forward"]?.rules.count == 1)
    #expect(Self.plain.substituteTable?.chains["forward"] == nil)
    #expect(Self.plain.ipv6Filter == nil)
    let egress = Self.rules { $0.blocksNodeLocalPodsInIPv6 = true }
    let line =
      #"FORWARD -d fd00::ac:0/118 -m conntrack --ctstate NEW -m comment --comment "Block Node Local Pod access via IPv6" "#
    let added = line + "-j REJECT --reject-with icmp6-port-unreachable"
    #expect(egress.ipv6Filter.flatMap { Self.restored($0, others) } == ["*filter", "-I " + added, "COMMIT"])
    #expect(egress.ipv6Filter.flatMap { Self.restored($0, ["*filter", "-A " + added, "COMMIT"]) } == nil)
  }

  @Test func ipv6PodsNeedNoTranslation() throws {
    let environment = ["ENABLE_IPv6": "true"]
    let rules = NetworkSettings(try Settings(environment: environment)).hostRules(
      address: IPAddress("2001:db8::4")!, interface: "eth0", vpcCIDRs: [IPPrefix("2001:db8::/56")!],
      earlier: EarlierSettings())
    #expect(rules.nat.rules.isEmpty && rules.nat.chains == ["AWS-SNAT-CHAIN-0": []] && rules.mangle.rules.isEmpty)
    #expect(rules.connmarkTable == nil && rules.filter.rules.count == 1)
  }

  /// Pods and connections from before a change of AWS_VPC_K8S_CNI_VETHPREFIX and AWS_VPC_K8S_CNI_CONNMARK have rules
  /// beside today's, in each backend. With neither SNAT nor NodePorts, their rules are the only ones.
  @Test func whatIsFromEarlierSettingsHasItsRules() {
    var rules = Self.rules {
      $0.earlier = EarlierSettings(vethPrefixes: ["old"], marks: [PacketMark(value: 0x100, mask: 0x100)])
    }
    let restored = { (rules: HostRules) in
      rules.mangle.rules.filter { $0.words.contains("--restore-mark") && $0.value(of: "-i") != "vlan+" }.map {
        "\($0.value(of: "-i") ?? "") \($0.value(of: "--nfmask") ?? "")"
      }
    }
    #expect(restored(rules) == ["eni+ 0x80", "eni+ 0x100", "old+ 0x80", "old+ 0x100"])
    #expect(rules.connmarkTable?.chains["nat-prerouting"]?.rules.count == 4)
    #expect(rules.substituteTable?.chains["restore-mark"]?.rules.count == 4)
    #expect(rules.substituteTable?.chains["prerouting"]?.rules.count == 4)
    rules.connmarkBackend = .iptables
    #expect(rules.nat.rules.compactMap { $0.value(of: "-i") } == ["eni+", "old+"])
    rules.externalSNAT = true
    rules.nodePortSupport = false
    #expect(restored(rules) == ["eni+ 0x100", "old+ 0x100"])
    #expect(rules.substituteTable?.chains["restore-mark"]?.rules.count == 2)
    // We recognise all of them as ours, so that they are removed once they are no longer wanted.
    #expect(rules.mangle.rules.allSatisfy { IptablesPlan.owns(rule: $0) })
  }

  @Test func wordsAreQuotedAsIptablesSaveDoes() {
    for words in [["-m", "comment", "--comment", #"a "b" \ 'c' ü"#], ["--comment", ""], ["!", "-o", "vlan+"]] {
      let rule = IptablesRule("C", words)
      #expect(IptablesTable(name: "nat", saveText: "*nat\n\(rule.line("-A"))\n").rules == [rule])
    }
    #expect(IptablesTable(name: "nat", saveText: "*nat\n-A C --comment \"open\n-A D -j X\n").rules.count == 1)
  }

  static func evidence(_ nft: String?, _ legacy: String?) -> IptablesBackend.Evidence {
    IptablesBackend.Evidence(nft: nft.map { IptablesSave($0) }, legacy: legacy.map { IptablesSave($0) })
  }

  /// Rules that belong to no particular program.
  static func some(_ count: Int) -> String {
    "*filter\n" + String(repeating: "-A INPUT -j ACCEPT\n", count: count) + "COMMIT\n"
  }

  static let hint = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n"
  static let canary = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n"
  static let ours = "*nat\n:AWS-SNAT-CHAIN-0 - [0:0]\n-A POSTROUTING -j AWS-SNAT-CHAIN-0\nCOMMIT\n"

  typealias Choice = (nft: String?, legacy: String?, current: IptablesBackend?, chosen: IptablesBackend?)

  @Test(
    arguments: [
      (nil, nil, nil, nil),
      ("", "", nil, .nft),
      (nil, "", nil, .legacy),
      ("", nil, nil, .nft),
      (hint, canary, nil, .nft),
      (some(1), canary, nil, .legacy),
      (some(2), some(1), nil, .nft),
      (some(1), some(2), nil, .legacy),
      // Our own rules do not show who uses a backend.
      (ours + some(1), some(2), nil, .legacy),
      ("# *mangle\n# :KUBE-IPTABLES-HINT \n", some(1), nil, .legacy),
      ("*nat\n:KUBE-IPTABLES-HINT - [0:0]\n", some(1), nil, .legacy),
      // Our rules stay in their backend as long as other programs use it too.
      ("", "", .legacy, .legacy),
      (some(9), some(1), .legacy, .legacy),
      (some(1), some(9), .nft, .nft),
      (some(1), "", .legacy, .nft),
      ("", some(1), .nft, .legacy),
      (hint, some(9), .legacy, .nft),
      (some(9), canary, .nft, .legacy),
      (some(1), nil, .legacy, .nft),
    ] as [Choice])
  func theBackendFollowsKubelet(_ choice: Choice) {
    let evidence = Self.evidence(choice.nft, choice.legacy)
    #expect(IptablesBackend.choose(evidence, current: choice.current) == choice.chosen)
  }

  @Test func whatIsOursIsReadOutOfASave() {
    let save = IptablesSave(
      "# Generated\n*filter\n:FORWARD DROP [3:9]\n:INPUT ACCEPT [0:0]\n-A FORWARD -j KUBE-FORWARD\nCOMMIT\n" + Self.ours
        + "# Table `mangle' is incompatible, use 'nft' tool.\n")
    #expect(save.dropsForward)
    #expect(!save.hasHint)
    #expect(save.ownedObjects == 2)
    #expect(save.foreignRules == 1)
    #expect(save.unreadable == ["mangle"])
    #expect(save.table("nat").rules.map(\.target) == ["AWS-SNAT-CHAIN-0"])
    #expect(save.table("nat").chains == ["AWS-SNAT-CHAIN-0"])
    #expect(save.table("filter").rules.isEmpty)
    #expect(save.table("raw") == IptablesTable(name: "raw"))
    #expect(!IptablesSave("*filter\n:FORWARD ACCEPT [0:0]\n*nat\n:FORWARD DROP [0:0]\n").dropsForward)
  }

  @Test(
    arguments: [
      ("iptables v1.8.9 (nf_tables)", IptablesVersion(1, 8, 9), true),
      ("iptables v1.6.2", IptablesVersion(1, 6, 2), true),
      ("iptables v1.6.1", IptablesVersion(1, 6, 1), false), ("iptables v1.4.21", IptablesVersion(1, 4, 21), false),
      ("iptables v2.0-rc1 (legacy)", IptablesVersion(2, 0, 0), true), ("iptables", nil, false), ("", nil, false),
      ("v.", nil, false), ("iptables v99999.1", nil, false),
    ] as [(String, IptablesVersion?, Bool)])
  func versionsAreRead(_ text: String, _ version: IptablesVersion?, _ knows: Bool) {
    #expect(IptablesVersion(printed: text) == version)
    #expect(IptablesVersion(printed: text)?.knowsRandomFully ?? false == knows)
  }

  @Test func theSubstituteSaysWhatIptablesWould() {
    var rules = Self.plain
    let table = rules.substituteTable
    #expect(Set(table?.chains.keys ?? [:].keys) == ["postrouting", "prerouting", "restore-mark"])
    #expect(table?.chains["prerouting"]?.rules.count == rules.mangle.rules.count)
    // `! -o vlan+` and `! --dst-type LOCAL` become return rules of their own.
    #expect(table?.chains["postrouting"]?.rules.count == (rules.nat.chains["AWS-SNAT-CHAIN-0"]?.count ?? 0) + 2)
    rules.externalSNAT = true
    #expect(rules.substituteTable?.chains["postrouting"] == nil)
    #expect(rules.substituteTable?.chains["prerouting"]?.rules.count == rules.mangle.rules.count)
    rules.nodePortSupport = false
    #expect(rules.substituteTable == nil)
    rules.externalSNAT = false
    #expect(rules.substituteTable?.chains["prerouting"]?.rules.count == 1)
    rules.randomization = .none
    rules.excludedCIDRs = [IPPrefix("0.0.0.0/0")!]
    let snat = rules.substituteTable?.chains["postrouting"]?.rules.map(\.expressions) ?? []
    #expect(snat.last == [.load([10, 0, 0, 4]), .sourceNAT(ports: .first)])
    #expect(snat.contains([.returnToCaller]))
  }
}

// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Glibc
import Synchronization
import Testing
import TestSupport
import VPCLinux
import VPCModel
import VPCSystem

/// The node's rules in a real kernel, in whichever firewall backend must hold them.
@Suite(
  .requiresRoot, .requires(program: "iptables-nft-save"), .requires(program: "iptables-legacy-save"),
  .requires(program: "nft"))
struct HostFirewallTests {
  /// The node's programs. A test can remove some of them or make them older.
  final class Programs: CommandRunner {
    struct State {
      var missing: Set<IptablesBackend> = []
      /// The kernel has no tables for iptables-legacy.
      var lacksLegacyTables = false
      /// The version that iptables reports. If it is set, iptables supports neither `--random-fully` nor `-w`.
      var version: String?
      var runs: [String] = []
    }

    let state = Mutex(State())
    let lockFile = "/tmp/vpc-cni-test-xtables.\(UInt32.random(in: 0...UInt32.max)).lock"
    private let real: SpawnedCommand

    init(missing: Set<IptablesBackend> = []) {
      real = SpawnedCommand(environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE=\(lockFile)"])
      state.withLock { $0.missing = missing }
    }

    deinit { unlink(lockFile) }

    func run(_ command: Command) throws(CommandError) -> CommandOutcome {
      let state = state.withLock {
        $0.runs.append(command.program)
        return $0
      }
      let isLegacy = command.program.contains("legacy")
      let isMissing = state.missing.contains(isLegacy ? .legacy : .nft) || !command.program.contains("-")
      guard !isMissing else { throw CommandError(.notFound, command.description) }
      if let version = state.version, command.arguments == ["--version"] {
        return CommandOutcome(ending: .exited(status: 0), output: Array("iptables v\(version)".utf8))
      }
      if state.lacksLegacyTables, isLegacy, command.program.hasSuffix("-restore") {
        let text = "iptables-restore: can't initialize iptables table `nat': Table does not exist"
        return CommandOutcome(ending: .exited(status: 3), errors: Array(text.utf8))
      }
      if state.version != nil,
        command.arguments.contains("-w") || String(decoding: command.input, as: UTF8.self).contains("--random-fully")
      {
        return CommandOutcome(ending: .exited(status: 2), errors: Array("unknown option".utf8))
      }
      return try real.run(command)
    }

    func set(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }

    var runs: [String] {
      state.withLock { state in
        defer { state.runs = [] }
        return state.runs
      }
    }
  }

  static func shell(_ line: String) throws { _ = try CommandResult.run(["sh", "-c", line]).get() }

  /// All rules that can be ours: rules and chains of iptables without counters, and our two tables.
  static func held() throws -> [String] {
    var lines: [String] = []
    for backend in IptablesBackend.allCases {
      let text = try CommandResult.run(["iptables-\(backend.rawValue)-save"]).get()
      lines += text.split(separator: "\n").filter { $0.contains("AWS") }.map {
        "\(backend.rawValue): \($0.split(separator: "[")[0])"
      }
    }
    for name in ["aws-cni", "vpc-cni-host"] {
      let listed = try CommandResult.run(["nft", "-s", "list", "table", "ip", name])
      guard listed.status == 0 else { continue }
      lines += listed.output.split(separator: "\n").map { "\(name): \($0)" }
    }
    return lines
  }

  static func backends(_ lines: [String]) -> Set<String> { Set(lines.map { String($0.prefix { $0 != ":" }) }) }

  static func expectHeld(by backends: Set<String>) throws {
    let lines = try held()
    #expect(Self.backends(lines) == backends, "\(lines)")
  }

  /// Creates kubelet's hint that it uses a backend, and removes its hint for the other one.
  static func kubeletUses(_ backend: IptablesBackend) throws {
    let other: IptablesBackend = backend == .nft ? .legacy : .nft
    try shell("iptables-\(backend.rawValue) -w 60 -t mangle -N KUBE-IPTABLES-HINT")
    try shell("iptables-\(other.rawValue) -w 60 -t mangle -X KUBE-IPTABLES-HINT 2>/dev/null || true")
  }

  @Test func theRulesMoveWithKubelet() throws {
    let programs = Programs()
    try NamespaceFixture().run {
      let firewall = HostFirewall(runner: programs)
      let rules = IptablesTests.rules
      // No program has shown yet which backend it uses.
      #expect(firewall.apply(rules).backend == .nft)
      try Self.expectHeld(by: ["nft", "aws-cni"])
      for backend in [IptablesBackend.legacy, .nft, .legacy] {
        try Self.kubeletUses(backend)
        let report = firewall.apply(rules)
        #expect(report.backend == FirewallBackend(backend) && report.isComplete)
        #expect(!report.changes.isEmpty)
        let held = try Self.held()
        #expect(Self.backends(held) == (backend == .nft ? ["nft", "aws-cni"] : ["legacy"]), "\(held)")
        #expect(firewall.apply(rules).changes.isEmpty)
        #expect(try Self.held() == held)
      }
    }
  }

  @Test func whatAnEarlierRunLeftInTheOtherBackendGoes() throws {
    for (left, used) in [(IptablesBackend.legacy, IptablesBackend.nft), (.nft, .legacy)] {
      try NamespaceFixture().run {
        try IptablesTests.asTheReference(left)
        try Self.shell("iptables-\(left.rawValue) -w 60 -t nat -N AWS-SNAT-CHAIN-1")
        try Self.shell("iptables-\(left.rawValue) -w 60 -t nat -A POSTROUTING -s 10.9.9.9 -j ACCEPT")
        try Self.kubeletUses(used)
        let report = HostFirewall(runner: Programs()).apply(IptablesTests.rules)
        #expect(report.backend == FirewallBackend(used))
        #expect(try !Self.backends(Self.held()).contains(left.rawValue))
        #expect(try CommandResult.run(["iptables-\(left.rawValue)-save"]).get().contains("-s 10.9.9.9/32 -j ACCEPT"))
      }
    }
  }

  @Test func nothingIsRunWhileNobodyChangesAnything() throws {
    let programs = Programs()
    try NamespaceFixture().run {
      let firewall = HostFirewall(runner: programs)
      _ = firewall.apply(IptablesTests.rules)
      _ = firewall.apply(IptablesTests.rules)
      _ = programs.runs
      for _ in 0..<5 { #expect(firewall.apply(IptablesTests.rules).changes.isEmpty) }
      #expect(programs.runs.isEmpty)
      try Self.shell("iptables-nft -t nat -F POSTROUTING; nft delete table ip aws-cni")
      let report = firewall.apply(IptablesTests.rules)
      #expect(report.changes.contains("write nat of iptables-nft"), "\(report.changes)")
      #expect(report.changes.contains { $0.contains("nat-prerouting") }, "\(report.changes)")
      // One run writes both nat and mangle.
      #expect(programs.runs.filter { $0.hasSuffix("-restore") } == ["iptables-nft-restore"])
      var other = IptablesTests.rules
      other.externalSNAT = true
      #expect(!firewall.apply(other).changes.isEmpty)
    }
  }

  /// The plain settings, each change to SNAT and marks alone, and one combination.
  static var settings: [HostRules] {
    let plain = IptablesTests.rules
    let changes: [@Sendable (inout HostRules) -> Void] = [
      { $0.externalSNAT = true }, { $0.nodePortSupport = false }, { $0.randomization = .hashed },
      { $0.randomization = .none }, { $0.excludedCIDRs = [] }, { $0.excludedCIDRs = [IPPrefix("0.0.0.0/0")!] },
      { $0.connmark = PacketMark(value: 0x300, mask: 0x300) }, { $0.vethPrefix = "pod" },
      { $0.vpcCIDRs = [IPPrefix("10.0.0.0/16")!, IPPrefix("172.16.0.0/12")!] }, { $0.primaryInterface = "renamed0" },
      {
        $0.externalSNAT = true
        $0.nodePortSupport = false
      },
    ]
    return [plain]
      + changes.map { change in
        var rules = plain
        change(&rules)
        return rules
      }
  }

  @Test(arguments: FirewallBackend.allCases)
  func aSwitchOfAnySettingLeavesWhatAFreshNodeHas(_ backend: FirewallBackend) throws {
    let programs = Programs(missing: backend == .nftables ? [.legacy, .nft] : [])
    let hint = { @Sendable in if backend == .legacy { try Self.kubeletUses(.legacy) } }
    let fresh = try Self.settings.map { rules in
      try NamespaceFixture().run {
        try hint()
        let report = HostFirewall(runner: programs).apply(rules)
        #expect(report.backend == backend && report.failures.isEmpty, "\(report)")
        return try Self.held().sorted()
      }
    }
    #expect(Set(fresh).count == fresh.count, "every setting shows in the rules")
    try NamespaceFixture().run {
      try hint()
      // Apply each setting twice, in two different orders, with the plain settings after each.
      let count = Self.settings.count
      for index in 0..<count * 2 {
        let which = index < count ? index : (index * 5 + 3) % count
        let report = HostFirewall(runner: programs).apply(Self.settings[which])
        #expect(report.failures.isEmpty)
        #expect(try Self.held().sorted() == fresh[which], "setting \(which) in \(backend)")
        _ = HostFirewall(runner: programs).apply(Self.settings[0])
        #expect(try Self.held().sorted() == fresh[0], "back from setting \(which) in \(backend)")
      }
    }
  }

  @Test func withoutIptablesNftablesHoldsAllUntilThereIsOne() throws {
    let programs = Programs(missing: [.legacy, .nft])
    try NamespaceFixture().run {
      let firewall = HostFirewall(runner: programs)
      let report = firewall.apply(IptablesTests.rules)
      #expect(report.backend == .nftables && report.substitutes?.code == .unavailable && report.isComplete)
      try Self.expectHeld(by: ["aws-cni", "vpc-cni-host"])
      #expect(firewall.apply(IptablesTests.rules).changes.isEmpty)
      #expect(firewall.apply(IptablesTests.rules).changes.isEmpty)
      programs.set { $0.missing = [.legacy] }
      #expect(firewall.apply(IptablesTests.rules).backend == .nft)
      try Self.expectHeld(by: ["aws-cni", "nft"])
      programs.set { $0.missing = [] }
      try Self.kubeletUses(.legacy)
      #expect(firewall.apply(IptablesTests.rules).backend == .legacy)
      try Self.expectHeld(by: ["legacy"])
    }
  }

  @Test func aKernelWithoutLegacyTablesWorksThroughNftables() throws {
    let programs = Programs(missing: [.nft])
    programs.set { $0.lacksLegacyTables = true }
    try NamespaceFixture().run {
      let firewall = HostFirewall(runner: programs)
      let report = firewall.apply(IptablesTests.rules)
      #expect(report.backend == .nftables && report.isComplete)
      #expect(report.substitutes?.detail?.contains("Table does not exist") == true)
      try Self.expectHeld(by: ["aws-cni", "vpc-cni-host"])
      #expect(firewall.apply(IptablesTests.rules).changes.isEmpty)
      programs.set { $0.lacksLegacyTables = false }
      #expect(firewall.apply(IptablesTests.rules).backend == .legacy)
      try Self.expectHeld(by: ["legacy"])
    }
  }

  @Test func aTableThatOnlyNftCanShowIsLeftAlone() throws {
    let programs = Programs()
    try NamespaceFixture().run {
      let text = """
        table ip nat {
          set s { type ipv4_addr; }
          chain POSTROUTING { type nat hook postrouting priority 100; ip saddr @s masquerade; }
        }

        """
      _ = try CommandResult.run(["nft", "-f", "-"], input: text).get()
      let report = HostFirewall(runner: programs).apply(IptablesTests.rules)
      #expect(report.backend == .nftables && report.substitutes?.code == .incompatible)
      try Self.expectHeld(by: ["aws-cni", "vpc-cni-host"])
    }
  }

  @Test func whileTheLockIsHeldNftablesStandsIn() throws {
    let programs = Programs()
    try NamespaceFixture().run {
      try Self.kubeletUses(.legacy)
      let firewall = HostFirewall(runner: programs)
      let holder = FlockHolder(programs.lockFile)
      let report = firewall.apply(IptablesTests.rules, lockWaitSeconds: 1)
      #expect(report.backend == .nftables && report.substitutes?.code == .locked && !report.isComplete)
      #expect(report.failures.isEmpty, "all is in place, if elsewhere")
      try Self.expectHeld(by: ["aws-cni", "vpc-cni-host"])
      holder.release()
      #expect(firewall.apply(IptablesTests.rules).backend == .legacy)
      try Self.expectHeld(by: ["legacy"])
      // Rules that are already in place stay there while the lock is held.
      let again = FlockHolder(programs.lockFile)
      defer { again.release() }
      let held = try Self.held()
      var rules = IptablesTests.rules
      rules.vpcCIDRs.append(IPPrefix("172.16.0.0/12")!)
      let late = firewall.apply(rules, lockWaitSeconds: 1)
      #expect(late.backend == .legacy && late.failures.count == 1 && !late.isComplete)
      #expect(try Self.held() == held)
    }
  }

  @Test func anOldIptablesGetsWhatItKnows() throws {
    let programs = Programs(missing: [.nft])
    programs.set { $0.version = "1.6.1" }
    try NamespaceFixture().run {
      let report = HostFirewall(runner: programs).apply(IptablesTests.rules)
      #expect(report.backend == .legacy && report.isComplete && report.usesHashedPorts)
      let held = try Self.held()
      #expect(held.contains { $0.hasSuffix("--to-source 10.0.0.4 --random") }, "\(held)")
      var external = IptablesTests.rules
      external.externalSNAT = true
      #expect(!HostFirewall(runner: programs).apply(external).usesHashedPorts)
    }
  }

  @Test func chainsThatDropForwardedPacketsAreTold() throws {
    let programs = Programs()
    try NamespaceFixture().run {
      let firewall = HostFirewall(runner: programs)
      #expect(firewall.apply(IptablesTests.rules).droppingForward.isEmpty)
      try Self.shell("iptables-nft -P FORWARD DROP; iptables-legacy -w 60 -P FORWARD DROP")
      try Self.shell("nft 'table inet wall { chain f { type filter hook forward priority 0; policy drop; }; }'")
      // These do not count: another hook, another family, a policy that accepts.
      try Self.shell("nft 'table inet wall { chain i { type filter hook input priority 0; policy drop; }; }'")
      try Self.shell("nft 'table ip6 wall { chain f { type filter hook forward priority 0; policy drop; }; }'")
      try Self.shell("nft 'table ip wall { chain f { type filter hook forward priority 0; policy accept; }; }'")
      let told = firewall.apply(IptablesTests.rules).droppingForward.map(\.chain)
      #expect(told == ["iptables-legacy filter FORWARD", "inet wall f", "ip filter FORWARD"])
      let kept = try CommandResult.run(["nft", "list", "ruleset"]).get()
      #expect(kept.contains("hook forward priority filter; policy drop;"))
    }
  }

  /// A kernel whose nf_tables has no ip family refuses both iptables-nft and our own tables. In this test, another
  /// program owns the tables, and the kernel refuses ours with EPERM. iptables-legacy works, and holds the rules for as
  /// long as that lasts.
  @Test func theOtherIptablesHoldsWhatNftablesRefuses() async throws {
    let node = try NamespaceFixture()
    let tables = ["nat", "mangle", "aws-cni", "vpc-cni-host"].map { "add table ip \($0) { flags owner; }" }
    var owner: PeerProcess? = try node.run {
      try PeerProcess(["sh", "-c", "(echo '\(tables.joined(separator: "\n"))'; exec cat) | nft -i"], quiet: true)
    }
    let isOwned = { (try? node.command(["nft", "list", "tables"]).get().contains("vpc-cni-host")) ?? false }
    #expect(await eventually { isOwned() })
    try #require(owner != nil)
    let programs = Programs()
    try node.run {
      let firewall = HostFirewall(runner: programs)
      let report = firewall.apply(IptablesTests.rules)
      #expect(report.backend == .legacy && report.isComplete, "\(report.failures)")
      #expect(report.fallback?.code == .refused && report.substitutes == nil)
      #expect(report.connmark == "iptables")
      let held = { try Self.held().filter { !$0.hasPrefix("aws-cni") && !$0.hasPrefix("vpc-cni-host") } }
      let first = try held()
      #expect(Self.backends(first) == ["legacy"], "\(first)")
      #expect(firewall.apply(IptablesTests.rules).backend == .legacy)
      #expect(try held() == first)
    }
    // The program ends when its input ends, and its tables disappear with it.
    owner = nil
    #expect(await eventually { !isOwned() })
    try node.run {
      // Only we use iptables-legacy, and kubelet shows which backend it uses.
      try Self.kubeletUses(.nft)
      let firewall = HostFirewall(runner: programs)
      let report = firewall.apply(IptablesTests.rules)
      #expect(report.backend == .nft && report.isComplete && report.fallback == nil)
      try Self.expectHeld(by: ["nft", "aws-cni"])
    }
  }

  @Test func theSubstituteIsAsNftPrintsIt() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      var rules = IptablesTests.rules
      rules.connmarkBackend = .nftables
      let wanted: [NftablesSocket.Wanted] = [(HostRules.substituteTable, rules.substituteTable)]
      #expect(try !socket.converge(wanted).isEmpty)
      #expect(try socket.converge(wanted).isEmpty)
      let byHand = """
        flush ruleset
        table ip vpc-cni-host {
          chain restore-mark {
            meta mark set meta mark & 0xffffff7f
            ct mark & 0x80 == 0x80 meta mark set meta mark | 0x80
          }
          chain prerouting {
            type filter hook prerouting priority mangle; policy accept;
            iifname "eth0" fib daddr . iif type local ct mark set ct mark | 0x80
            iifname "eni*" jump restore-mark
            iifname "vlan*" jump restore-mark
          }
          chain postrouting {
            type nat hook postrouting priority 110; policy accept;
            oifname "vlan*" return
            fib daddr type local return
            ip daddr 10.0.0.0/16 return
            ip daddr 100.64.0.0/10 return
            ip daddr 192.168.0.0/20 return
            oifname != "eth0" fib saddr . oif type local return
            snat to 10.0.0.4 fully-random
          }
        }

        """
      _ = try CommandResult.run(["nft", "-f", "-"], input: byHand).get()
      #expect(try socket.changes(to: wanted).isEmpty)
      rules.randomization = .hashed
      _ = try socket.converge([(HostRules.substituteTable, rules.substituteTable)])
      #expect(try CommandResult.run(["nft", "list", "ruleset"]).get().contains("snat to 10.0.0.4 random\n"))
    }
  }
}

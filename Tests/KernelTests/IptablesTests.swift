// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Glibc
import Testing
import TestSupport
import VPCLinux
import VPCModel
import VPCSystem

/// The contract's rules in a real kernel, with both variants of iptables.
@Suite(.requiresRoot, .requires(program: "iptables-nft-save"), .requires(program: "iptables-legacy-save"))
struct IptablesTests {
  static var rules: HostRules {
    HostRules(
      primaryAddress: IPAddress("10.0.0.4")!, primaryInterface: "eth0",
      vpcCIDRs: [IPPrefix("10.0.0.0/16")!, IPPrefix("100.64.0.0/10")!], excludedCIDRs: [IPPrefix("192.168.0.0/20")!])
  }

  /// Puts the rules in place as amazon-vpc-cni-k8s does, one `iptables` call after the other.
  static func asTheReference(_ backend: IptablesBackend) throws {
    let snat = #"-m comment --comment "AWS SNAT CHAIN""#
    let lines = [
      "-t nat -N AWS-SNAT-CHAIN-0", "-t nat -A POSTROUTING \(snat) -j AWS-SNAT-CHAIN-0",
      "-t nat -I AWS-SNAT-CHAIN-0 1 -d 10.0.0.0/16 \(snat) -j RETURN",
      "-t nat -I AWS-SNAT-CHAIN-0 1 -d 100.64.0.0/10 \(snat) -j RETURN",
      #"-t nat -I AWS-SNAT-CHAIN-0 1 -d 192.168.0.0/20 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN"#,
      #"-t nat -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL "#
        + "-j SNAT --to-source 10.0.0.4 --random-fully",
      #"-t mangle -A PREROUTING -m comment --comment "AWS, primary ENI" -i eth0 -m addrtype --dst-type LOCAL "#
        + "--limit-iface-in -j CONNMARK --set-mark 0x80/0x80",
      #"-t mangle -A PREROUTING -m comment --comment "AWS, primary ENI" -i eni+ -j CONNMARK --restore-mark --mask 0x80"#,
      #"-t mangle -A PREROUTING -m comment --comment "AWS, primary ENI" -i vlan+ -j CONNMARK --restore-mark --mask 0x80"#,
      "-t nat -N AWS-CONNMARK-CHAIN-0",
      #"-t nat -A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0"#,
      #"-t nat -A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --mask 0x80"#,
      #"-t nat -I AWS-CONNMARK-CHAIN-0 1 -d 10.0.0.0/16 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN"#,
      #"-t nat -I AWS-CONNMARK-CHAIN-0 1 -d 100.64.0.0/10 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN"#,
      #"-t nat -I AWS-CONNMARK-CHAIN-0 1 -d 192.168.0.0/20 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN"#,
      #"-t nat -A AWS-CONNMARK-CHAIN-0 -m comment --comment "AWS, CONNMARK" -j CONNMARK --set-xmark 0x80/0x80"#,
    ]
    for line in lines { try shell("iptables-\(backend.rawValue) -w 60 \(line)") }
  }

  static func shell(_ line: String) throws { _ = try CommandResult.run(["sh", "-c", line]).get() }

  /// Reads a whole table.
  static func table(_ name: String, _ backend: IptablesBackend) throws -> IptablesTable {
    IptablesTable(name: name, saveText: try CommandResult.run(["iptables-\(backend.rawValue)-save"]).get())
  }

  static func saved(_ backend: IptablesBackend) throws -> [String] {
    let text = try CommandResult.run(["iptables-\(backend.rawValue)-save"]).get()
    return text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("-A") }
  }

  @Test(arguments: IptablesBackend.allCases)
  func writesTheContractsRulesOnce(_ backend: IptablesBackend) throws {
    try NamespaceFixture().run {
      let iptables = try Iptables(backend: backend)
      #expect(try iptables.apply([Self.rules.nat, Self.rules.mangle]) == ["nat", "mangle"])
      #expect(try iptables.apply([Self.rules.nat, Self.rules.mangle]).isEmpty)
      let saved = try Self.saved(backend)
      for line in [
        #"-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0"#,
        #"-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN"#,
        #"-A AWS-SNAT-CHAIN-0 -d 192.168.0.0/20 -m comment --comment "AWS SNAT CHAIN EXCLUSION" -j RETURN"#,
        #"-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.4 --random-fully"#,
        #"-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80"#,
        #"-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"#,
      ] {
        #expect(saved.contains(line), "\(saved)")
      }
    }
  }

  @Test(arguments: IptablesBackend.allCases)
  func leavesWhatTheReferenceWrote(_ backend: IptablesBackend) throws {
    try NamespaceFixture().run {
      try Self.asTheReference(backend)
      let iptables = try Iptables(backend: backend)
      let before = try Self.saved(backend)
      // One rule more than amazon-vpc-cni-k8s has, for packets that the node sends from an ENI's own address.
      #expect(try iptables.apply([Self.rules.nat, Self.rules.mangle]) == ["nat"])
      let new = try Self.saved(backend).filter { !before.contains($0) }
      #expect(new.count == 1 && new.allSatisfy { $0.contains("own address") }, "\(new)")
      #expect(try Set(before).isSubset(of: Self.saved(backend)))
    }
  }

  @Test(arguments: IptablesBackend.allCases)
  func takesOverOldLayoutsAndKeepsForeignRules(_ backend: IptablesBackend) throws {
    try NamespaceFixture().run {
      let iptables = try Iptables(backend: backend)
      let foreign = #"""
        *nat
        :KUBE-POSTROUTING - [0:0]
        :AWS-SNAT-CHAIN-0 - [0:0]
        :AWS-SNAT-CHAIN-1 - [0:0]
        :AWS-CONNMARK-CHAIN-0 - [0:0]
        :AWS-CONNMARK-CHAIN-1 - [0:0]
        -A POSTROUTING -m comment --comment "kubernetes \"postrouting\" rules" -j KUBE-POSTROUTING
        -A KUBE-POSTROUTING -d 10.9.0.0/16 -j RETURN
        -A POSTROUTING -m comment --comment "AWS SNAT CHAN" -j AWS-SNAT-CHAIN-0
        -A AWS-SNAT-CHAIN-0 ! -d 10.7.0.0/16 -m comment --comment "AWS SNAT CHAN" -j AWS-SNAT-CHAIN-1
        -A AWS-SNAT-CHAIN-1 -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.9
        -A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -m state --state NEW -j AWS-CONNMARK-CHAIN-0
        -A AWS-CONNMARK-CHAIN-0 ! -d 10.7.0.0/16 -j AWS-CONNMARK-CHAIN-1
        -A PREROUTING -p tcp -m comment --comment "AWS, not ours" -j ACCEPT
        COMMIT

        """#
      _ = try CommandResult.run(["iptables-\(backend.rawValue)-restore", "--noflush"], input: foreign).get()
      #expect(try iptables.apply([Self.rules.nat]) == [Self.rules.nat.table])
      #expect(try iptables.apply([Self.rules.nat]).isEmpty)
      let table = try Self.table("nat", backend)
      #expect(table.chains.filter { $0.hasPrefix("AWS") }.sorted() == ["AWS-CONNMARK-CHAIN-0", "AWS-SNAT-CHAIN-0"])
      #expect(
        table.rules.filter { $0.chain == "POSTROUTING" }.map(\.target) == ["KUBE-POSTROUTING", "AWS-SNAT-CHAIN-0"])
      #expect(table.rules.contains { $0.comment == #"kubernetes "postrouting" rules"# })
      #expect(table.rules.contains { $0.comment == "AWS, not ours" })
      #expect(table.rules.contains { $0.chain == "KUBE-POSTROUTING" })
      // From now on, SNAT happens outside the node.
      var external = Self.rules
      external.externalSNAT = true
      #expect(try iptables.apply([external.nat]) == [external.nat.table])
      #expect(try iptables.apply([external.nat]).isEmpty)
      let left = try Self.table("nat", backend)
      #expect(left.chains.filter { $0.hasPrefix("AWS") } == ["AWS-SNAT-CHAIN-0"])
      #expect(!left.rules.contains { IptablesPlan.owns(rule: $0) })
      #expect(left.rules.contains { $0.chain == "KUBE-POSTROUTING" })
    }
  }

  @Test(arguments: IptablesBackend.allCases)
  func aRefusedRuleLeavesTheTableAsItWas(_ backend: IptablesBackend) throws {
    try NamespaceFixture().run {
      let iptables = try Iptables(backend: backend)
      #expect(try iptables.apply([Self.rules.nat]) == [Self.rules.nat.table])
      let before = try Self.saved(backend)
      var wrong = Self.rules.nat
      wrong.chains["AWS-SNAT-CHAIN-0"]?.append(["-j", "NO-SUCH-CHAIN"])
      let error = #expect(throws: IptablesError.self) { try iptables.apply([wrong]) }
      #expect(error?.code == .refused)
      #expect(error?.detail?.isEmpty == false)
      #expect(try Self.saved(backend) == before)
    }
  }

  @Test(.requires(program: "flock")) func theLockThatIsHeldIsNamed() throws {
    try NamespaceFixture().run {
      // To use a lock file of the test's own, the programs need an environment: the runner passes it.
      let file = "/tmp/vpc-cni-test-xtables.\(UInt32.random(in: 0...UInt32.max)).lock"
      let environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE=\(file)"]
      let runner = SpawnedCommand(environment: environment)
      let iptables = try Iptables(backend: .legacy, runner: runner)
      #expect(try iptables.apply([Self.rules.mangle]) == [Self.rules.mangle.table])
      let holder = FlockHolder(file)
      defer { holder.release() }
      let error = #expect(throws: IptablesError.self) {
        try iptables.apply([Self.rules.nat], lockWaitSeconds: 1)
      }
      #expect(error?.code == .locked)
      #expect(error?.isTransient == true)
      #expect(error?.detail?.contains("/run/xtables.lock") == true)
      #expect(try iptables.save().table("nat").chains.contains("AWS-SNAT-CHAIN-0") == false)
    }
  }

  @Test func aTableThatIptablesCannotShowIsLeftAlone() throws {
    try NamespaceFixture().run {
      let text = """
        table ip nat {
          set s { type ipv4_addr; }
          chain POSTROUTING { type nat hook postrouting priority 100; ip saddr @s masquerade; }
        }

        """
      _ = try CommandResult.run(["nft", "-f", "-"], input: text).get()
      let iptables = try Iptables(backend: .nft)
      let error = #expect(throws: IptablesError.self) { try iptables.apply([Self.rules.nat]) }
      #expect(error?.code == .incompatible)
      #expect(try !CommandResult.run(["nft", "list", "ruleset"]).get().contains("AWS"))
    }
  }

  @Test func theConnmarkTableIsAsTheContractPrintsIt() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      var rules = Self.rules
      rules.connmarkBackend = .nftables
      rules.excludedCIDRs.append(IPPrefix("172.16.0.0/12")!)
      let wanted: [NftablesSocket.Wanted] = [(HostRules.connmarkTable, rules.connmarkTable)]
      #expect(try !socket.converge(wanted).isEmpty)
      #expect(try socket.converge(wanted).isEmpty)
      let text = try CommandResult.run(["nft", "-s", "list", "table", "ip", "aws-cni"]).get()
      // The same table written by hand, as the contract defines it, needs no change.
      let byHand = """
        flush ruleset
        table ip aws-cni {
          chain snat-mark {
            counter ip daddr 10.0.0.0/16 return
            counter ip daddr 100.64.0.0/10 return
            counter ip daddr 172.16.0.0/12 return
            counter ip daddr 192.168.0.0/20 return
            counter ct mark set ct mark | 0x80
          }
          chain nat-prerouting {
            type nat hook prerouting priority -90; policy accept;
            fib daddr type local return
            iifname "eni*" counter jump snat-mark
            counter meta mark set ct mark & 0x80
          }
        }

        """
      _ = try CommandResult.run(["nft", "-f", "-"], input: byHand).get()
      #expect(try CommandResult.run(["nft", "-s", "list", "table", "ip", "aws-cni"]).get().count == text.count)
      #expect(try socket.changes(to: wanted).isEmpty)
      rules.externalSNAT = true
      #expect(try socket.converge([(HostRules.connmarkTable, rules.connmarkTable)]) == [.deleteTable])
    }
  }
}

/// Holds a lock on a file, as another iptables process would, and removes the file at the end.
final class FlockHolder {
  private let path: String
  private let descriptor: Int32

  init(_ path: String) {
    self.path = path
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    flock(descriptor, LOCK_EX)
  }

  func release() {
    close(descriptor)
    unlink(path)
  }
}

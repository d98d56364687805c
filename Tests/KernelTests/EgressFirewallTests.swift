// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import TestSupport
import Testing
import VPCLinux
import VPCModel
import VPCSystem

/// The rules of egress-cni in a real kernel: both families, both variants of iptables.
@Suite(
  .requiresRoot, .requires(program: "iptables-nft-save"), .requires(program: "iptables-legacy-save"),
  .requires(program: "ip6tables-nft-save"), .requires(program: "ip6tables-legacy-save"))
struct EgressFirewallTests {
  /// One direction with one variant as the node's own.
  struct Case: Sendable, CustomTestStringConvertible {
    let family: AddressFamily
    let backend: IptablesBackend
    var testDescription: String { "\(base)-\(backend.rawValue)" }
    var base: String { family == .ipv4 ? "iptables" : "ip6tables" }
    var program: String { "\(base)-\(backend.rawValue)" }
    var address: IPAddress { IPAddress(family == .ipv4 ? "169.254.172.7" : "fd00::ac:7")! }
    var node: IPAddress { IPAddress(family == .ipv4 ? "10.0.0.4" : "2001:db8::4")! }
    var rules: EgressRules { EgressRules(family: family, network: "aws-cni", containerID: "abc") }

    /// A folder in which `iptables` is the variant, and the runner that finds programs only there.
    func host() throws -> (TemporaryFolder, SpawnedCommand) {
      let folder = TemporaryFolder()
      for ending in ["", "-save", "-restore"] {
        for (name, program) in [(base, self.program), (self.program, self.program), (other, other)] {
          let target = try #require(TestNeeds.path(of: program + ending))
          _ = try CommandResult.run(["ln", "-s", target, folder.path(name + ending)]).get()
        }
      }
      return (folder, SpawnedCommand(path: [folder.path]))
    }

    var other: String { "\(base)-\(backend.other.rawValue)" }

    func saved(_ program: String? = nil) throws -> [String] {
      try CommandResult.run(["\(program ?? self.program)-save"]).get().split(separator: "\n").map(String.init)
        .filter { $0.contains("CNI-E") }
    }

    func add(
      _ firewall: EgressFirewall, _ rules: EgressRules, _ address: IPAddress, _ randomization: HostRules.Randomization
    ) throws {
      // The file that an ADD holds: the reservation.
      let folder = TemporaryFolder()
      try folder.write("\(address)")
      try firewall.add(
        rules, of: address, nodeAddress: node, randomization: randomization,
        hold: try ReservationHold(address, in: folder.path))
    }

    func add(_ firewall: EgressFirewall, _ randomization: HostRules.Randomization = .fully) throws {
      try add(firewall, rules, address, randomization)
    }
  }

  static let cases = AddressFamily.allCases.flatMap { family in
    IptablesBackend.allCases.map { Case(family: family, backend: $0) }
  }

  /// One program call after the other, as amazon-vpc-cni-k8s makes them.
  static func asTheOther(_ each: Case, _ program: String? = nil, steps: Int = 4) throws {
    let comment = #"-m comment --comment 'name: "aws-cni" id: "abc"'"#
    let chain = each.rules.chain
    let single = each.family == .ipv4 ? "169.254.172.7/32" : "fd00::ac:7/128"
    let lines = [
      "-N \(chain)", "-A \(chain) -d \(each.family == .ipv4 ? "224.0.0.0/4" : "ff00::/8") -j ACCEPT \(comment)",
      "-A \(chain) -j SNAT --to-source \(each.node) \(comment) --random-fully",
      "-A POSTROUTING -s \(single) -j \(chain) \(comment)",
    ]
    for line in lines.prefix(steps) {
      _ = try CommandResult.run(["sh", "-c", "\(program ?? each.program) -w 60 -t nat \(line)"]).get()
    }
  }

  @Test(arguments: cases)
  func theRulesEqualThoseOfTheOtherProduct(_ each: Case) throws {
    let theirs = try NamespaceFixture().run {
      try Self.asTheOther(each)
      return try each.saved()
    }
    try NamespaceFixture().run {
      let (folder, runner) = try each.host()
      let firewall = EgressFirewall(runner: runner)
      try each.add(firewall)
      #expect(try each.saved() == theirs && theirs.count == 4, "\(theirs)")
      #expect(try firewall.remove(each.rules, of: each.address))
      #expect(try each.saved().isEmpty)
      for address in [each.address, nil] { #expect(try !firewall.remove(each.rules, of: address)) }
      withExtendedLifetime(folder) {}
    }
  }

  /// `steps` are those of an ADD that was killed.
  @Test(arguments: cases, [1, 2, 3, 4])
  func removesWhatTheOtherProductMade(_ each: Case, steps: Int) throws {
    for address in [each.address, nil] {
      try NamespaceFixture().run {
        let (folder, runner) = try each.host()
        try Self.asTheOther(each, steps: steps)
        #expect(try EgressFirewall(runner: runner).remove(each.rules, of: address))
        #expect(try each.saved().isEmpty)
        withExtendedLifetime(folder) {}
      }
    }
  }

  @Test(arguments: cases)
  func foreignRulesStay(_ each: Case) throws {
    try NamespaceFixture().run {
      let (folder, runner) = try each.host()
      let firewall = EgressFirewall(runner: runner)
      _ = try CommandResult.run([
        each.program, "-w", "60", "-t", "nat", "-A", "POSTROUTING", "-o", "x0", "-j", "ACCEPT",
      ])
      .get()
      let other = EgressRules(family: each.family, network: "aws-cni", containerID: "other")
      try each.add(firewall, other, each.address.advanced(by: 1)!, .none)
      let before = try each.saved()
      try each.add(firewall, .hashed)
      #expect(try each.saved().contains { $0.hasSuffix("--to-source \(each.node) --random") })
      // A second jump, as two ADDs of the same container would make.
      try each.add(firewall)
      #expect(try firewall.remove(each.rules, of: nil))
      #expect(try each.saved() == before)
      #expect(try CommandResult.run(["\(each.program)-save"]).get().contains("-A POSTROUTING -o x0 -j ACCEPT"))
      withExtendedLifetime(folder) {}
    }
  }

  /// The administrator changed the node's `iptables` between ADD and DEL.
  @Test(arguments: cases)
  func rulesInTheOtherVariantAreFound(_ each: Case) throws {
    try NamespaceFixture().run {
      let (folder, runner) = try each.host()
      try Self.asTheOther(each, each.other)
      #expect(try EgressFirewall(runner: runner).remove(each.rules, of: each.address))
      #expect(try each.saved(each.other).isEmpty)
      withExtendedLifetime(folder) {}
    }
  }

  @Test(arguments: AddressFamily.allCases)
  func aMissingProgramIsNamed(family: AddressFamily) throws {
    let each = Case(family: family, backend: .nft)
    let folder = TemporaryFolder()
    let firewall = EgressFirewall(runner: SpawnedCommand(path: [folder.path]))
    let error = #expect(throws: IptablesError.self) { try each.add(firewall) }
    #expect(error?.code == .unavailable)
    #expect(error?.detail == "the node has no program \(each.base): install the iptables package")
    #expect(throws: IptablesError.self) { try firewall.remove(each.rules, of: nil) }
  }

  /// Before 1.6.2: no `-w`, no `--random-fully`.
  @Test(.requires(program: "iptables-legacy-restore")) func anOldReleaseGetsWhatItKnows() throws {
    let each = Case(family: .ipv4, backend: .legacy)
    let folder = TemporaryFolder()
    _ = try folder.program("iptables", "#!/bin/sh\necho iptables v1.6.1\n")
    _ = try folder.program(
      "iptables-restore",
      "#!/bin/sh\ncase \"$*\" in *-w*) echo unknown option >&2; exit 2;; esac\n/bin/cat >\(folder.path("written"))\n")
    try each.add(EgressFirewall(runner: SpawnedCommand(path: [folder.path])))
    let text = try folder.text("written")
    #expect(text.contains("--to-source 10.0.0.4 --random\n"), "\(text)")
  }
}

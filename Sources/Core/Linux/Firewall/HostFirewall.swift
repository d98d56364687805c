// SPDX-License-Identifier: Apache-2.0
//
// Keeps the node's rules in the firewall that kubelet uses, and takes them out of the others.
//
//   look      iptables-save of each backend, at most one process each; nothing at all where nftables' generation says
//             that nobody has changed anything
//   choose    IptablesBackend.choose: kubelet's chain, then who uses what; without a usable iptables nftables alone
//   write     the chosen one first, then nftables' tables, then the leftovers in the other one: no packet finds no rule.
//             What the chosen one refuses nftables' own tables hold; where they are refused too, the other iptables
//
// What differs is decided by values: IptablesPlan.restoreText and NftablesOperation.difference.

internal import VPCModel

/// The firewalls of the network namespace that its thread is in. Not Sendable: one owner, on a thread that may block.
package final class HostFirewall {
  private let runner: any CommandRunner
  private var nftables: NftablesSocket?
  private var programs: [IptablesBackend: Iptables] = [:]
  /// Where the rules stand; nil before the first application.
  private var current: IptablesBackend?
  private var last: FirewallBackend?
  private var lastRules: HostRules?
  private var settled: Settled?

  /// The state in which nothing was left to do.
  private struct Settled {
    let rules: HostRules
    let generation: UInt32
    let programs: Set<IptablesBackend>
    let report: FirewallReport
  }

  package init(runner: any CommandRunner = SpawnedCommand()) { self.runner = runner }

  /// Makes the node hold exactly these rules, wherever they have to stand today. Nothing is written where it does, and
  /// nothing but a number is read where nftables holds all and nobody has changed it.
  ///
  /// - Parameters:
  ///   - rules: `connmarkBackend` is decided here.
  ///   - lockWaitSeconds: how long another holder of the xtables lock is waited for, 1…600.
  package func apply(_ rules: HostRules, lockWaitSeconds: Int = 30) -> FirewallReport {
    let loaded = HostFirewall.loadedLegacyTables()
    findPrograms()
    var generation: UInt32?
    var unavailable: NftablesError?
    do throws(NftablesError) {
      generation = try openNftables().generation()
    } catch {
      unavailable = error
    }
    if let settled, loaded.isEmpty, settled.rules == rules, settled.generation == generation,
      settled.programs == Set(programs.keys)
    {
      return settled.report
    }
    settled = nil
    let evidence: IptablesBackend.Evidence
    do throws(IptablesError) {
      evidence = try look(loaded)
    } catch {
      // Not knowing what is there, nothing is moved.
      var report = FirewallReport(backend: current.map { FirewallBackend($0) } ?? .nftables, connmark: nil)
      report.failures = [error]
      return report
    }
    let chosen = IptablesBackend.choose(evidence, current: current ?? HostFirewall.owner(evidence))
    var report = write(rules, chosen, evidence, lockWaitSeconds, unavailable)
    report.droppingForward = droppingForward(evidence)
    report.isMove = report.backend != last || rules != lastRules
    last = report.backend
    lastRules = rules
    current = IptablesBackend.allCases.first { FirewallBackend($0) == report.backend }
    // What iptables refused is tried again at every look.
    let isFinal = report.isComplete && report.substitutes.map { $0.code == .unavailable } ?? true
    if isFinal, report.changes.isEmpty, report.backend != .legacy, let generation {
      settled = Settled(rules: rules, generation: generation, programs: Set(programs.keys), report: report)
    }
    return report
  }

  // MARK: look

  private func openNftables() throws(NftablesError) -> NftablesSocket {
    if let nftables { return nftables }
    let socket = try NftablesSocket()
    nftables = socket
    return socket
  }

  /// Looks for the programs that were not there at the last look.
  private func findPrograms() {
    for backend in IptablesBackend.allCases where programs[backend] == nil {
      // Missing is an answer; what else fails is tried again with the next application.
      programs[backend] = try? Iptables(backend: backend, runner: runner)
    }
  }

  private func look(_ loaded: [String]) throws(IptablesError) -> IptablesBackend.Evidence {
    var evidence = IptablesBackend.Evidence()
    evidence.nft = try save(.nft)
    // Without a table in the kernel there is nothing to print.
    evidence.legacy = loaded.isEmpty ? programs[.legacy].map { _ in IptablesSave("") } : try save(.legacy)
    return evidence
  }

  /// - Returns: nil where the backend does not work here.
  private func save(_ backend: IptablesBackend) throws(IptablesError) -> IptablesSave? {
    guard let program = programs[backend] else { return nil }
    do {
      return try program.save()
    } catch {
      if error.code == .unavailable {
        programs[backend] = nil
        return nil
      }
      // A moment's trouble must not move the rules to the other backend.
      guard backend != current, !error.isTransient else { throw error }
      return nil
    }
  }

  /// Tables of iptables-legacy that the kernel has in this namespace.
  /// Source: /proc/net/ip_tables_names, ip_tables_names of net/ipv4/netfilter/ip_tables.c.
  private static func loadedLegacyTables() -> [String] {
    // No file: the module is not loaded.
    let bytes = (try? BoundedFile.read("/proc/thread-self/net/ip_tables_names", limit: 4096)) ?? []
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  /// Where an earlier run, or the reference, has left rules.
  private static func owner(_ evidence: IptablesBackend.Evidence) -> IptablesBackend? {
    let owners = IptablesBackend.allCases.filter { (evidence[$0]?.ownedObjects ?? 0) > 0 }
    return owners.count == 1 ? owners.first : nil
  }

  private func droppingForward(_ evidence: IptablesBackend.Evidence) -> [ForwardPolicy] {
    var chains = evidence.legacy?.dropsForward ?? false ? [ForwardPolicy.legacy] : []
    // A rule set that changes while it is listed is listed at the next look.
    if let nftables, let found = try? nftables.droppingForwardChains() { chains += found }
    return chains
  }

  // MARK: write

  private func write(
    _ rules: HostRules, _ chosen: IptablesBackend?, _ evidence: IptablesBackend.Evidence, _ lockWaitSeconds: Int,
    _ unavailable: NftablesError?
  ) -> FirewallReport {
    var outcome = Outcome()
    let isBridged = chosen == .nft && unavailable == nil && bridge(rules, evidence, lockWaitSeconds, &outcome)
    var backend = chosen.map { FirewallBackend($0) } ?? .nftables
    var refusal: IptablesError?
    if let chosen, let program = programs[chosen] {
      do throws(IptablesError) {
        // What was read before is not what stands there now.
        try outcome.write(rules, to: program, isBridged ? nil : evidence[chosen], lockWaitSeconds)
      } catch {
        // Rules that stand there from before do until it works; where there are none, or it never will, nftables has to.
        if error.isTransient && (evidence[chosen]?.ownedObjects ?? 0) > 0 {
          outcome.failures.append(error)
        } else {
          refusal = error
          backend = .nftables
        }
      }
    } else {
      refusal = IptablesError(.unavailable, "find iptables", detail: "no such program works on this node")
    }
    do throws(NftablesError) {
      try writeTables(rules, for: backend, unavailable, &outcome)
      outcome.substitutes = refusal
    } catch {
      if let refusal, let chosen, fallBack(rules, from: chosen, evidence, lockWaitSeconds, &outcome) {
        outcome.fallback = refusal
        backend = FirewallBackend(chosen.other)
      } else {
        outcome.failures += [refusal].compactMap { $0 } + [error]
      }
    }
    for other in IptablesBackend.allCases where other != chosen && backend != FirewallBackend(other) {
      guard let save = evidence[other], save.ownedObjects > 0, let program = programs[other] else { continue }
      do throws(IptablesError) {
        let plans = [IptablesPlan(table: "nat"), IptablesPlan(table: "mangle")]
        let written = try program.apply(plans, present: save, lockWaitSeconds: lockWaitSeconds)
        if !written.isEmpty { outcome.left.append(other) }
        outcome.changes += written.map { "remove our rules from \($0) of iptables-\(other.rawValue)" }
      } catch {
        outcome.failures.append(error)
      }
    }
    let connmark = rules.externalSNAT ? nil : backend == .legacy ? "iptables" : "nftables"
    return outcome.report(backend, connmark)
  }

  /// Our tables of nftables: connection marks beside iptables-nft, everything where no iptables holds the rules.
  private func writeTables(
    _ rules: HostRules, for backend: FirewallBackend, _ unavailable: NftablesError?, _ outcome: inout Outcome
  ) throws(NftablesError) {
    var rules = rules
    rules.connmarkBackend = backend == .legacy ? .iptables : .nftables
    let wanted: [NftablesSocket.Wanted] = [
      (HostRules.connmarkTable, rules.connmarkTable),
      (HostRules.substituteTable, backend == .nftables ? rules.substituteTable : nil),
    ]
    if let nftables, unavailable == nil {
      outcome.changes += try nftables.converge(wanted).map(\.description)
    } else if let unavailable, wanted.contains(where: { $0.content != nil }) {
      throw unavailable
    }
  }

  /// Puts the rules into the iptables that kubelet does not use: the one that it uses refuses them, and so does nftables
  /// itself, as in a kernel whose nf_tables has no ip family.
  ///
  /// - Returns: whether they are there.
  private func fallBack(
    _ rules: HostRules, from chosen: IptablesBackend, _ evidence: IptablesBackend.Evidence, _ lockWaitSeconds: Int,
    _ outcome: inout Outcome
  ) -> Bool {
    guard let program = programs[chosen.other], let present = evidence[chosen.other] else { return false }
    do throws(IptablesError) {
      try outcome.write(rules, to: program, present, lockWaitSeconds)
      return true
    } catch {
      outcome.failures.append(error)
      return false
    }
  }

  /// Makes iptables-nft translate by the connections' marks, and brings the marks, where what is translated is about to
  /// change.
  ///
  /// - Returns: whether anything was written.
  private func bridge(
    _ rules: HostRules, _ evidence: IptablesBackend.Evidence, _ lockWaitSeconds: Int, _ outcome: inout Outcome
  ) -> Bool {
    var rules = rules
    rules.connmarkBackend = .nftables
    guard let nftables, let program = programs[.nft], let save = evidence.nft,
      let plan = rules.bridge(from: save.table("nat"))
    else { return false }
    // What fails here is done, and told, right behind: a connection that begins in between then has to begin again.
    guard (try? program.apply([plan], present: save, lockWaitSeconds: lockWaitSeconds)) != nil else {
      return false
    }
    let written = try? nftables.converge([(HostRules.connmarkTable, rules.connmarkTable)])
    outcome.changes += written?.map(\.description) ?? []
    return true
  }

  /// A report in the making.
  private struct Outcome {
    var changes: [String] = []
    var substitutes: IptablesError?
    var fallback: IptablesError?
    var left: [IptablesBackend] = []
    var failures: [any CausedError] = []
    var usesHashedPorts = false

    /// By one run of iptables-restore where anything differs.
    mutating func write(
      _ rules: HostRules, to program: Iptables, _ present: IptablesSave?, _ lockWaitSeconds: Int
    ) throws(IptablesError) {
      var rules = rules
      rules.connmarkBackend = program.backend == .legacy ? .iptables : .nftables
      usesHashedPorts = rules.randomization == .fully && !rules.externalSNAT && !program.version.knowsRandomFully
      if usesHashedPorts { rules.randomization = .hashed }
      let written = try program.apply([rules.nat, rules.mangle], present: present, lockWaitSeconds: lockWaitSeconds)
      changes += written.map { "write \($0) of iptables-\(program.backend.rawValue)" }
    }

    func report(_ backend: FirewallBackend, _ connmark: String?) -> FirewallReport {
      var report = FirewallReport(backend: backend, connmark: connmark)
      report.changes = changes
      report.substitutes = substitutes
      report.fallback = fallback
      report.left = left
      report.failures = failures
      report.usesHashedPorts = usesHashedPorts
      return report
    }
  }
}

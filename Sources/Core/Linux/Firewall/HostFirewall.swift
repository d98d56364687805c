// SPDX-License-Identifier: Apache-2.0
//
// Keeps the node's rules in the firewall backend that kubelet uses, and removes them from the others.
//
//   read      iptables-save of each backend, at most one process each; nothing if nftables' generation is unchanged
//   choose    IptablesBackend.choose: kubelet's chain, then foreign rules; only nftables without a usable iptables
//   write     the chosen backend first, then nftables' tables, then removal from the other backend: there is no gap.
//             If the chosen backend refuses, nftables holds the rules; if that refuses too, the other iptables
//
// Values compute the differences: IptablesPlan.restoreText and NftablesOperation.difference.

internal import VPCModel
package import VPCSystem

/// The firewalls of the network namespace that its thread is in. Not Sendable: one owner, on a thread that may block.
package final class HostFirewall {
  private let runner: any CommandRunner
  private var nftables: NftablesSocket?
  private var programs: [IptablesBackend: Iptables] = [:]
  /// Where the rules are; nil before the first application.
  private var current: IptablesBackend?
  private var last: FirewallBackend?
  private var lastRules: HostRules?
  private var settled: Settled?

  /// The last complete state.
  private struct Settled {
    let rules: HostRules
    let generation: UInt32
    let programs: Set<IptablesBackend>
    let report: FirewallReport
  }

  package init(runner: any CommandRunner = SpawnedCommand()) { self.runner = runner }

  /// Brings the node's rules into exactly this state, in the right backend. Writes nothing if they are in place, and
  /// reads only the generation number if nftables holds all rules and is unchanged.
  ///
  /// - Parameters:
  ///   - rules: `connmarkBackend` is decided here.
  ///   - lockWaitSeconds: how long to wait for the xtables lock, 1…600.
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
      // While the present state is unknown, nothing is moved.
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
    // A refusal of iptables is retried at every check.
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

  /// Looks for programs that were missing at the last check.
  private func findPrograms() {
    for backend in IptablesBackend.allCases where programs[backend] == nil {
      // A missing program is a valid result; other failures are retried with the next application.
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

  /// - Returns: nil if the backend does not work here.
  private func save(_ backend: IptablesBackend) throws(IptablesError) -> IptablesSave? {
    guard let program = programs[backend] else { return nil }
    do {
      return try program.save()
    } catch {
      if error.code == .unavailable {
        programs[backend] = nil
        return nil
      }
      // A transient failure must not move the rules to the other backend.
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

  /// Backends with rules of an earlier run or of amazon-vpc-cni-k8s.
  private static func owner(_ evidence: IptablesBackend.Evidence) -> IptablesBackend? {
    let owners = IptablesBackend.allCases.filter { (evidence[$0]?.ownedObjects ?? 0) > 0 }
    return owners.count == 1 ? owners.first : nil
  }

  private func droppingForward(_ evidence: IptablesBackend.Evidence) -> [ForwardPolicy] {
    var chains = evidence.legacy?.dropsForward ?? false ? [ForwardPolicy.legacy] : []
    // A rule set that changes while it is listed is listed at the next check.
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
        // The earlier read is out of date now.
        try outcome.write(rules, to: program, isBridged ? nil : evidence[chosen], lockWaitSeconds)
      } catch {
        // Earlier rules there suffice until it works; without them, or if it never will, nftables is used.
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
        let plans = rules.plans.map { IptablesPlan(table: $0.table) }
        let written = try program.apply(plans, present: save, lockWaitSeconds: lockWaitSeconds)
        if !written.isEmpty { outcome.left.append(other) }
        outcome.changes += written.map { "remove our rules from \($0) of iptables-\(other.rawValue)" }
      } catch {
        outcome.failures.append(error)
      }
    }
    if let plan = rules.ipv6Filter,
      let holder = IptablesBackend.allCases.first(where: { FirewallBackend($0) == backend })
    {
      do throws(IptablesError) {
        // Without ip6tables, egress-cni gives no pod an IPv6 address.
        let program = try Iptables(backend: holder, family: .ipv6, runner: runner)
        let written = try program.apply([plan], lockWaitSeconds: lockWaitSeconds)
        outcome.changes += written.map { "write \($0) of ip6tables-\(holder.rawValue)" }
      } catch {
        if error.code != .unavailable { outcome.failures.append(error) }
      }
    }
    let connmark = rules.externalSNAT ? nil : backend == .legacy ? "iptables" : "nftables"
    return outcome.report(backend, connmark)
  }

  /// The agent's nftables tables: connection marks beside iptables-nft, all rules if no iptables holds them.
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

  /// Writes the rules into the iptables backend that kubelet does not use: kubelet's backend and nftables refuse them,
  /// as in a kernel whose nf_tables has no ip family.
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

  /// Makes iptables-nft translate by connection mark, and restores the marks, while the translated destinations are
  /// about to change.
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
    // If this fails, the next step still writes the rules and reports the error: a connection opened in between may
    // need a retry.
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

    /// One run of iptables-restore if anything differs.
    mutating func write(
      _ rules: HostRules, to program: Iptables, _ present: IptablesSave?, _ lockWaitSeconds: Int
    ) throws(IptablesError) {
      var rules = rules
      rules.connmarkBackend = program.backend == .legacy ? .iptables : .nftables
      usesHashedPorts = rules.randomization == .fully && !rules.externalSNAT && !program.version.knowsRandomFully
      if usesHashedPorts { rules.randomization = .hashed }
      let written = try program.apply(rules.plans, present: present, lockWaitSeconds: lockWaitSeconds)
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

// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCSystem

/// A pod's egress rules in the node's iptables: the program `iptables` or `ip6tables` of the host, whichever backend it is.
///
/// On the host, that name is the backend of kubelet too, and amazon-vpc-cni-k8s looks for its chains there. Adding runs
/// one program, removing complete rules another one (docs/decisions/0062).
package struct EgressFirewall: Sendable {
  private let runner: any CommandRunner

  /// How long to wait for the xtables lock.
  private static let lockWaitSeconds = 30

  package init(runner: any CommandRunner = SpawnedCommand()) { self.runner = runner }

  /// Makes the pod's chain and the rule that leads to it, in one transaction. An existing chain is written again.
  ///
  /// - Parameter hold: the program holds the reservation too: it may end after this process.
  /// - Throws: `IptablesError`, `.unavailable` if the node has no such program. Nothing is left then.
  package func add(
    _ rules: EgressRules, of address: IPAddress, nodeAddress: IPAddress, randomization: HostRules.Randomization,
    hold: borrowing ReservationHold
  ) throws(IptablesError) {
    let held = hold.descriptor
    let what = "write nat of \(IptablesProgram.name(rules.family))"
    try withProgram(rules.family, what) { (program) throws(IptablesError) in
      let text = rules.addition(of: address, nodeAddress: nodeAddress, randomization: randomization)
      do throws(IptablesError) {
        try program.restore(
          text, lockWaitSeconds: EgressFirewall.lockWaitSeconds, saysWait: true, for: what, holding: held)
      } catch {
        guard error.code == .refused, let version = try program.identify()?.version, !version.knowsRandomFully
        else { throw error }
        let older = rules.addition(
          of: address, nodeAddress: nodeAddress, randomization: randomization == .fully ? .hashed : randomization)
        try program.restore(
          older, lockWaitSeconds: EgressFirewall.lockWaitSeconds, saysWait: false, for: what, holding: held)
      }
    }
  }

  /// Removes the pod's chain and every rule that leads to it.
  ///
  /// - Parameter address: the pod's, if it is known: complete rules then need no search. They are searched for in the
  ///   other backend too, if the node's choice has changed since ADD.
  /// - Returns: whether there was anything.
  /// - Throws: `IptablesError`; `.unavailable` if the node has no such program.
  package func remove(_ rules: EgressRules, of address: IPAddress?) throws(IptablesError) -> Bool {
    let what = "remove \(rules.chain) from \(IptablesProgram.name(rules.family))"
    return try withProgram(rules.family, what) { (program) throws(IptablesError) in
      if let address {
        do throws(IptablesError) {
          try restore(rules.removal(of: address), program, what)
          return true
        } catch {
          // Not complete, or not there at all.
          guard error.code == .refused else { throw error }
        }
      }
      if try search(rules, program, what) { return true }
      guard address != nil, let other = try otherBackend(of: program, rules.family) else { return false }
      return try search(rules, other, what)
    }
  }

  private func search(_ rules: EgressRules, _ program: IptablesProgram, _ what: String) throws(IptablesError) -> Bool {
    guard let text = rules.removal(from: try program.save(table: "nat", for: what)) else { return false }
    try restore(text, program, what)
    return true
  }

  private func restore(_ text: String, _ program: IptablesProgram, _ what: String) throws(IptablesError) {
    do throws(IptablesError) {
      try program.restore(text, lockWaitSeconds: EgressFirewall.lockWaitSeconds, saysWait: true, for: what)
    } catch {
      guard error.code == .refused, let version = try program.identify()?.version, !version.knowsRandomFully
      else { throw error }
      try program.restore(text, lockWaitSeconds: EgressFirewall.lockWaitSeconds, saysWait: false, for: what)
    }
  }

  /// The program of the backend that the node's `iptables` is not; nil if it is missing or can hold nothing.
  private func otherBackend(
    of program: IptablesProgram, _ family: AddressFamily
  ) throws(IptablesError) -> IptablesProgram? {
    guard let backend = try program.identify()?.backend.other else { return nil }
    // The legacy programs would load the table.
    if backend == .legacy, !EgressFirewall.hasLegacyTable(family) { return nil }
    let other = IptablesProgram("\(IptablesProgram.name(family))-\(backend.rawValue)", runner: runner)
    return try other.identify()?.backend == backend ? other : nil
  }

  /// Source: /proc/net/ip_tables_names and ip6_tables_names of the kernel's x_tables.
  private static func hasLegacyTable(_ family: AddressFamily) -> Bool {
    let name = family == .ipv4 ? "ip_tables_names" : "ip6_tables_names"
    let bytes = (try? BoundedFile.read("/proc/thread-self/net/\(name)", limit: 4096)) ?? []
    return bytes.split(separator: UInt8(ascii: "\n")).contains { $0.elementsEqual("nat".utf8) }
  }

  /// Runs `body` with the first program that is installed: some nodes have only the names with a backend.
  private func withProgram<Value>(
    _ family: AddressFamily, _ what: String, _ body: (IptablesProgram) throws(IptablesError) -> Value
  ) throws(IptablesError) -> Value {
    let base = IptablesProgram.name(family)
    for name in [base] + IptablesBackend.allCases.reversed().map({ "\(base)-\($0.rawValue)" }) {
      do throws(IptablesError) {
        return try body(IptablesProgram(name, runner: runner))
      } catch {
        guard error.code == .unavailable else { throw error }
      }
    }
    throw IptablesError(.unavailable, what, detail: "the node has no program \(base): install the iptables package")
  }
}

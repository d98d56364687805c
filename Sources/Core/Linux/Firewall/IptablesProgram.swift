// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCSystem

/// The iptables programs of one name: NAME, NAME-save and NAME-restore. Blocks; the programs get the calling thread's
/// namespace.
package struct IptablesProgram: Sendable {
  /// `iptables`, `ip6tables-nft`.
  package let name: String
  private let runner: any CommandRunner

  package init(_ name: String, runner: any CommandRunner) {
    self.name = name
    self.runner = runner
  }

  /// The name that belongs to no backend: the node's administrator decides which one it is.
  package static func name(_ family: AddressFamily) -> String { family == .ipv4 ? "iptables" : "ip6tables" }

  /// Asks for the backend and the release.
  ///
  /// - Returns: nil if there is no such program, or it does not print a version.
  /// - Throws: `.failed` if it cannot be run.
  package func identify() throws(IptablesError) -> (backend: IptablesBackend, version: IptablesVersion)? {
    let outcome: CommandOutcome
    do {
      outcome = try runner.run(Command(name, ["--version"], deadline: .seconds(10), outputLimit: 65_536))
    } catch {
      guard error.code == .notFound else { throw IptablesError(.failed, "find \(name)", cause: error) }
      return nil
    }
    guard outcome.succeeded, let version = IptablesVersion(printed: outcome.outputText) else { return nil }
    // `iptables v1.8.9 (nf_tables)`, or `(legacy)`; before 1.8 there was only legacy, without this suffix.
    return (outcome.outputText.contains("nf_tables") ? .nft : .legacy, version)
  }

  /// Reads what NAME-save prints.
  ///
  /// - Parameters:
  ///   - table: nil for all existing tables. The legacy programs load the table that is named.
  ///   - what: verb and object, for errors.
  /// - Throws: `.unavailable` if there is no such program, `.failed`.
  package func save(table: String? = nil, for what: String) throws(IptablesError) -> String {
    let outcome: CommandOutcome
    do {
      let arguments = table.map { ["-t", $0] } ?? []
      outcome = try runner.run(Command("\(name)-save", arguments, deadline: .seconds(60), outputLimit: 64 << 20))
    } catch {
      throw IptablesError(error.code == .notFound ? .unavailable : .failed, what, cause: error)
    }
    guard outcome.succeeded else { throw IptablesError(.failed, what, detail: outcome.errorText) }
    return outcome.outputText
  }

  /// Runs `NAME-restore --noflush`: one transaction per table, all under one xtables lock.
  ///
  /// - Parameters:
  ///   - lockWaitSeconds: how long to wait for the xtables lock, 1…600.
  ///   - saysWait: whether to pass it, as `-w`: programs before 1.6.2 do not know it.
  ///   - what: verb and object, for errors.
  ///   - held: a descriptor that the program holds until it ends.
  /// - Throws: `.unavailable`, `.locked`, `.refused` with the program's message, `.failed`.
  package func restore(
    _ text: String, lockWaitSeconds: Int, saysWait: Bool, for what: String, holding held: Int32? = nil
  ) throws(IptablesError) {
    let arguments = ["--noflush"] + (saysWait ? ["-w", "\(lockWaitSeconds)"] : [])
    var command = Command(
      "\(name)-restore", arguments, input: Array(text.utf8), deadline: .seconds(lockWaitSeconds + 60),
      outputLimit: 1 << 20)
    command.heldDescriptor = held
    let outcome: CommandOutcome
    do {
      outcome = try runner.run(command)
    } catch {
      throw IptablesError(error.code == .notFound ? .unavailable : .failed, what, cause: error)
    }
    guard !outcome.succeeded else { return }
    if outcome.ending == .exited(status: 4) && outcome.errorText.contains("lock") {
      let detail = "another program has held /run/xtables.lock for more than \(lockWaitSeconds) s"
      throw IptablesError(.locked, what, detail: detail)
    }
    throw IptablesError(.refused, what, detail: outcome.errorText)
  }
}

// SPDX-License-Identifier: Apache-2.0
internal import VPCModel

/// Which kernel interface the iptables programs speak to.
package enum IptablesBackend: String, Sendable, Hashable, CaseIterable {
  case legacy
  case nft
}

/// iptables-save and iptables-restore for IPv4, one backend. Blocks; the programs get the calling thread's namespace.
package struct Iptables: Sendable {
  package let backend: IptablesBackend
  private let runner: any CommandRunner
  private let lockWaitSeconds: Int
  private let savePath: String
  private let restorePath: String

  /// - Parameter lockWaitSeconds: how long another holder of the xtables lock is waited for, 1…600.
  /// - Throws: `.unavailable` where no program of the backend is installed.
  package init(
    backend: IptablesBackend, runner: any CommandRunner = SpawnedCommand(), lockWaitSeconds: Int = 30
  ) throws(IptablesError) {
    self.backend = backend
    self.runner = runner
    self.lockWaitSeconds = min(max(lockWaitSeconds, 1), 600)
    savePath = try Iptables.program("save", backend, runner)
    restorePath = try Iptables.program("restore", backend, runner)
  }

  /// `iptables-nft-save`, or `iptables-save` where that is the wanted backend.
  private static func program(
    _ verb: String, _ backend: IptablesBackend, _ runner: any CommandRunner
  ) throws(IptablesError) -> String {
    let names = ["iptables-\(backend.rawValue)-\(verb)", "iptables-\(verb)"]
    for name in names {
      do {
        let version = try runner.run(Command(name, ["--version"], deadline: .seconds(10), outputLimit: 65_536))
        // `iptables-save v1.8.9 (nf_tables)`, or `(legacy)`; before 1.8 there was legacy alone and nothing said so.
        let isNft = version.outputText.contains("nf_tables")
        if version.succeeded && isNft == (backend == .nft) { return name }
      } catch {
        guard error.code == .notFound else { throw IptablesError(.failed, "find \(name)", cause: error) }
      }
    }
    throw IptablesError(.unavailable, "find \(names[0])", detail: "no such program on this node")
  }

  /// Reads one table.
  ///
  /// - Throws: `.incompatible` where the table holds what this program cannot show; `.failed`.
  package func read(_ table: String) throws(IptablesError) -> IptablesTable {
    let text = try saveText(table: table)
    // iptables-nft-save says so and succeeds.
    if text.contains("# Table `\(table)' is incompatible") {
      let what = "read the \(table) table of iptables-\(backend.rawValue)"
      throw IptablesError(.incompatible, what, detail: "it holds rules that only nft can show")
    }
    return IptablesTable(name: table, saveText: text)
  }

  /// What iptables-save prints: one table, or all that are there.
  func saveText(table: String?) throws(IptablesError) -> String {
    let what = "read the \(table ?? "whole") table of iptables-\(backend.rawValue)"
    let command = Command(
      savePath, table.map { ["-t", $0] } ?? [], deadline: .seconds(60), outputLimit: 64 << 20)
    let outcome: CommandOutcome
    do {
      outcome = try runner.run(command)
    } catch {
      throw IptablesError(.failed, what, cause: error)
    }
    guard outcome.succeeded else { throw IptablesError(.failed, what, detail: outcome.errorText) }
    return outcome.outputText
  }

  /// Makes a table hold what is wanted: nothing is written where it does, and one transaction otherwise.
  ///
  /// - Returns: whether something was written.
  /// - Throws: `.locked` where somebody held the xtables lock for longer than we wait; `.refused` with the program's
  ///   words: the table is as it was then.
  @discardableResult
  package func apply(_ plan: IptablesPlan) throws(IptablesError) -> Bool {
    guard let text = plan.restoreText(present: try read(plan.table)) else { return false }
    try restore(text, table: plan.table)
    return true
  }

  /// What would be written; nil where the table holds what is wanted.
  package func difference(_ plan: IptablesPlan) throws(IptablesError) -> String? {
    plan.restoreText(present: try read(plan.table))
  }

  private func restore(_ text: String, table: String) throws(IptablesError) {
    let what = "write the \(table) table of iptables-\(backend.rawValue)"
    var arguments = ["--noflush"]
    // The nft programs know the option and need no lock.
    if backend == .legacy { arguments += ["-w", "\(lockWaitSeconds)"] }
    let command = Command(
      restorePath, arguments, input: Array(text.utf8), deadline: .seconds(lockWaitSeconds + 60), outputLimit: 1 << 20)
    let outcome: CommandOutcome
    do {
      outcome = try runner.run(command)
    } catch {
      throw IptablesError(.failed, what, cause: error)
    }
    guard !outcome.succeeded else { return }
    if outcome.ending == .exited(status: 4) && outcome.errorText.contains("lock") {
      let detail = "another program has held /run/xtables.lock for more than \(lockWaitSeconds) s"
      throw IptablesError(.locked, what, detail: detail)
    }
    throw IptablesError(.refused, what, detail: outcome.errorText)
  }
}

/// What iptables could not do.
package struct IptablesError: CausedError {
  package struct Code: Sendable, Hashable {
    private enum Kind { case unavailable, incompatible, locked, refused, failed }
    private let kind: Kind

    /// The node has no program for the backend.
    package static let unavailable = Code(kind: .unavailable)
    /// The table was written by something that iptables cannot show.
    package static let incompatible = Code(kind: .incompatible)
    /// Somebody else holds the xtables lock.
    package static let locked = Code(kind: .locked)
    /// The program or the kernel refused the rules; the table is as it was.
    package static let refused = Code(kind: .refused)
    /// The program could not be run, or failed to read.
    package static let failed = Code(kind: .failed)
  }

  package let code: Code
  /// What was tried: `write the nat table of iptables-nft`.
  package let object: String
  /// The program's words, on one line, or ours.
  package let detail: String?
  package let cause: (any Error)?

  package init(_ code: Code, _ object: String, detail: String? = nil, cause: (any Error)? = nil) {
    self.code = code
    self.object = object
    self.detail = detail
    self.cause = cause
  }

  package var isTransient: Bool { code == .locked || (cause as? CommandError)?.isTransient ?? false }

  package var description: String { object + (detail.map { ": \($0)" } ?? "") }
}

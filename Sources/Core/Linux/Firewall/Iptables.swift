// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCSystem

/// Which kernel interface the iptables programs speak to.
package enum IptablesBackend: String, Sendable, Hashable, CaseIterable {
  case legacy
  case nft

  package var other: IptablesBackend { self == .nft ? .legacy : .nft }
}

/// iptables-save and iptables-restore of one backend and family. Blocks; the programs get the calling thread's namespace.
package struct Iptables: Sendable {
  package let backend: IptablesBackend
  package let version: IptablesVersion
  /// `iptables-nft`, for errors; the program may have the name without the backend.
  private let name: String
  private let program: IptablesProgram

  /// Asks for the programs' version.
  ///
  /// - Parameter family: IPv6 has programs and tables of its own, `ip6tables`.
  /// - Throws: `.unavailable` if no program of the backend is installed.
  package init(
    backend: IptablesBackend, family: AddressFamily = .ipv4, runner: any CommandRunner = SpawnedCommand()
  ) throws(IptablesError) {
    self.backend = backend
    let base = IptablesProgram.name(family)
    name = "\(base)-\(backend.rawValue)"
    for name in [name, base] {
      let program = IptablesProgram(name, runner: runner)
      if let found = try program.identify(), found.backend == backend {
        self.program = program
        version = found.version
        return
      }
    }
    throw IptablesError(.unavailable, "find \(name)", detail: "no such program on this node")
  }

  /// Reads all existing tables, and loads none.
  package func save() throws(IptablesError) -> IptablesSave { IptablesSave(try saveText()) }

  private func saveText() throws(IptablesError) -> String {
    try program.save(for: "read the tables of \(name)")
  }

  /// Brings tables into the desired state: writes nothing if they match, otherwise one transaction per differing table,
  /// all in one run of the program and so under one xtables lock.
  ///
  /// - Parameters:
  ///   - present: the result of a recent `save`; nil to read it here.
  ///   - lockWaitSeconds: how long to wait for the xtables lock, 1…600.
  /// - Returns: the names of the tables that were written.
  /// - Throws: `.incompatible` if a differing table contains rules that this program cannot show; `.locked` if another
  ///   program held the xtables lock for longer than the wait; `.refused` with the program's message. Each table is
  ///   either in the desired or in its previous state.
  @discardableResult
  package func apply(
    _ plans: [IptablesPlan], present: IptablesSave? = nil, lockWaitSeconds: Int = 30
  ) throws(IptablesError) -> [String] {
    let save = if let present { present } else { try save() }
    var text = ""
    var names: [String] = []
    for plan in plans {
      guard let part = plan.restoreText(present: save.table(plan.table)) else { continue }
      guard !save.unreadable.contains(plan.table) else {
        let what = "read the \(plan.table) table of \(name)"
        throw IptablesError(.incompatible, what, detail: "it holds rules that only nft can show")
      }
      text += part
      names.append(plan.table)
    }
    guard !names.isEmpty else { return [] }
    try restore(text, tables: names, min(max(lockWaitSeconds, 1), 600))
    return names
  }

  private func restore(_ text: String, tables: [String], _ lockWaitSeconds: Int) throws(IptablesError) {
    // The nft programs need no lock, and those before 1.6.2 take none.
    let takesLock = backend == .legacy && version.knowsRandomFully
    try program.restore(
      text, lockWaitSeconds: lockWaitSeconds, saysWait: takesLock,
      for: "write \(tables.joined(separator: " and ")) of \(name)")
  }
}

/// An iptables failure. The detail is the program's message on one line, or this program's.
package typealias IptablesError = LayerError<IptablesFault>

package enum IptablesFault: LayerFault {
  /// The node has no program for the backend.
  case unavailable
  /// The table contains rules that iptables cannot show.
  case incompatible
  /// Another program holds the xtables lock.
  case locked
  /// The program or the kernel refused the rules; the table is unchanged.
  case refused
  /// The program could not be run, or failed to read.
  case failed
}

extension IptablesError {
  package var isTransient: Bool { code == .locked || (cause as? CommandError)?.isTransient ?? false }
}

/// The release of the iptables programs, from what `iptables --version` prints.
package struct IptablesVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let major: Int
  package let minor: Int
  package let patch: Int

  package init(_ major: Int, _ minor: Int, _ patch: Int = 0) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// Reads `iptables v1.8.9 (nf_tables)`; nil if there is no version.
  package init?(printed text: String) {
    guard let word = text.split(whereSeparator: \.isWhitespace).first(where: { $0.hasPrefix("v") }) else { return nil }
    let numbers = word.dropFirst().split(separator: ".").map { Int($0.prefix { $0.isNumber }) ?? 0 }
    guard numbers.count > 1, numbers.allSatisfy({ 0..<1000 ~= $0 }) else { return nil }
    self.init(numbers[0], numbers[1], numbers.count > 2 ? numbers[2] : 0)
  }

  /// SNAT knows `--random-fully`, and iptables-restore `-w`.
  package var knowsRandomFully: Bool { self >= IptablesVersion(1, 6, 2) }

  package static func < (left: IptablesVersion, right: IptablesVersion) -> Bool {
    (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
  }

  package var description: String { "\(major).\(minor).\(patch)" }
}

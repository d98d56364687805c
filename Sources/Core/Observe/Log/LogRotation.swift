// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel
import VPCSystem

/// When a log file is rotated, and how long backups are kept.
///
/// Source: contract, 7.4 (the rotation of amazon-vpc-cni-k8s); backups have the names of its library.
package struct LogRotation: Sendable, Equatable {
  /// A file of at least this size is rotated before the next line.
  package var bytes: Int64 = 100 * 1_024 * 1_024
  /// The number of backups kept.
  package var backups = 5
  /// Older ones are removed.
  package var days = 30

  package init() {}

  /// The name of a rotated file: `/var/log/plugin.log` → `/var/log/plugin-2026-11-23T03-45-42.123.log`.
  func backupPath(of path: String, at time: UTCTime) -> String {
    let name = LogName(path)
    let stamp = time.text(timeSeparator: "-").dropLast()
    return "\(name.folder)/\(name.stem)-\(stamp)\(name.suffix)"
  }

  /// The same, or the next millisecond with a free name: a rename would replace an existing file. Call it with the
  /// folder locked.
  func freeBackupPath(of path: String, at time: UTCTime) -> String {
    for later in 0..<Int64(1_000) {
      let backup = backupPath(of: path, at: UTCTime(milliseconds: time.milliseconds + later))
      if access(backup, F_OK) != 0, access(backup + ".gz", F_OK) != 0 { return backup }
    }
    return backupPath(of: path, at: time)
  }

  static func folder(of path: String) -> String { LogName(path).folder }

  /// The backups of a log file, newest first; compressed ones end in `.gz`.
  package static func backups(of path: String) -> [String] {
    entries(of: path) { $0.isBackup($1) }
  }

  /// The suffix of a file being compressed.
  static let partialSuffix = ".partial"

  /// Removes leftovers of interrupted compressions if the backup is gone too; others are restarted in the same file.
  static func removePartials(of path: String) {
    let partials = entries(of: path) { name, text in
      text.hasSuffix(partialSuffix) && name.isBackup(String(text.dropLast(partialSuffix.utf8.count)))
    }
    for partial in partials where access(String(partial.dropLast(partialSuffix.utf8.count)), F_OK) != 0 {
      unlink(partial)
    }
  }

  /// Paths of the folder's entries that are wanted, in falling order.
  private static func entries(of path: String, _ isWanted: (LogName, String) -> Bool) -> [String] {
    let name = LogName(path)
    guard var names = FolderNames(name.folder) else { return [] }
    var found: [String] = []
    while found.count < 1_000, let text = names.next() {
      if isWanted(name, text) { found.append("\(name.folder)/\(text)") }
    }
    return found.sorted(by: >)
  }

  /// Removes backups beyond the count or the age.
  func prune(_ path: String, now: UTCTime) {
    let oldest = UTCTime(milliseconds: now.milliseconds - Int64(days) * 86_400_000)
    for (index, backup) in Self.backups(of: path).enumerated() {
      if index >= backups || backup < backupPath(of: path, at: oldest) { unlink(backup) }
    }
  }
}

/// A log file's path in parts.
private struct LogName {
  let folder: String
  let stem: String
  /// With its dot; empty when there is none.
  let suffix: String

  init(_ path: String) {
    let file: Substring
    if let slash = path.lastIndex(of: "/") {
      folder = slash == path.startIndex ? "/" : String(path[..<slash])
      file = path[path.index(after: slash)...]
    } else {
      folder = "."
      file = path[...]
    }
    let dot = file.lastIndex(of: ".") ?? file.endIndex
    stem = String(file[..<dot])
    suffix = String(file[dot...])
  }

  /// `stem-2026-11-23T03-45-42.123` + suffix, with or without `.gz`. Nothing else in the folder is ever removed.
  func isBackup(_ name: String) -> Bool {
    var rest = name[...]
    if rest.hasSuffix(".gz") { rest = rest.dropLast(3) }
    guard rest.hasPrefix(stem + "-"), rest.hasSuffix(suffix) else { return false }
    let stamp = rest.dropFirst(stem.count + 1).dropLast(suffix.count).utf8
    let shape = Array("dddd-dd-ddTdd-dd-dd.ddd".utf8)
    guard stamp.count == shape.count else { return false }
    return zip(stamp, shape).allSatisfy { $1 == UInt8(ascii: "d") ? (0x30...0x39).contains($0) : $0 == $1 }
  }
}

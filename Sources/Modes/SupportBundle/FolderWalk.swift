// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCSystem

/// Names of regular files below a folder: important ones, then the newest.
enum FolderWalk {
  /// The maximum number of entries checked per folder.
  static let entryLimit = 5000

  struct Found: Sendable, Hashable {
    /// Relative to the folder, the first of them first.
    var names: [String] = []
    /// Files that are there and not among the names.
    var leftOut = 0
    /// A folder has more entries than were checked.
    var isCut = false

    /// For the index; nil if nothing is left out.
    func note(_ folder: String) -> String? {
      guard leftOut > 0 || isCut else { return nil }
      return "Left out of \(folder): \(isCut ? "more than " : "")\(leftOut) files that are older."
    }
  }

  private struct Entry {
    let name: String
    let rank: Int
    let modified: Int
  }

  /// Links are not followed; a folder that cannot be read has no files.
  ///
  /// - Parameters:
  ///   - depth: how many levels of subfolders to search.
  ///   - limit: files at most.
  ///   - starts: what a name of the first level begins with; names that begin with the first of them come first.
  ///   - ends: what a file's name ends with.
  ///   - first: names of files that come before all others, however many entries the folder has.
  static func files(
    _ folder: String, depth: Int, limit: Int, starts: [String] = [""], ends: [String] = [""], first: [String] = []
  ) -> Found {
    var found = Found()
    var (files, folders): ([Entry], [Entry]) = ([], [])
    let names = names(folder, limit: entryLimit)
    found.isCut = names.count == entryLimit
    let known = Set(first)
    for name in first + names.filter({ !known.contains($0) }) {
      guard let start = starts.firstIndex(where: name.hasPrefix) else { continue }
      var status = stat()
      guard lstat("\(folder)/\(name)", &status) == 0 else { continue }
      let rank = first.firstIndex(of: name) ?? first.count + start
      let entry = Entry(name: name, rank: rank, modified: status.st_mtim.tv_sec)
      if status.st_mode & S_IFMT == S_IFREG, ends.contains(where: name.hasSuffix) { files.append(entry) }
      if status.st_mode & S_IFMT == S_IFDIR { folders.append(entry) }
    }
    files.sort(by: isBefore)
    found.names = files.prefix(limit).map(\.name)
    found.leftOut = files.count - found.names.count
    guard depth > 0 else { return found }
    for entry in folders.sorted(by: isBefore) {
      let inner = FolderWalk.files(
        "\(folder)/\(entry.name)", depth: depth - 1, limit: limit - found.names.count, ends: ends)
      found.names += inner.names.map { "\(entry.name)/\($0)" }
      found.leftOut += inner.leftOut
      found.isCut = found.isCut || inner.isCut
    }
    return found
  }

  private static func isBefore(_ one: Entry, _ other: Entry) -> Bool {
    (one.rank, -one.modified, one.name) < (other.rank, -other.modified, other.name)
  }

  /// Sorted.
  static func names(_ folder: String, limit: Int) -> [String] {
    guard var entries = FolderNames(folder) else { return [] }
    return entries.next(atMost: limit).sorted()
  }
}

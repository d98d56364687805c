// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The names in a folder, one after the other, unordered, without `.` and `..`. The reader sets the limit: the folder's
/// content is not trusted.
package struct FolderNames: ~Copyable {
  private let stream: OpaquePointer

  /// - Returns: nil if the folder cannot be opened; `errno` says why.
  package init?(_ folder: String) {
    guard let stream = opendir(folder) else { return nil }
    self.stream = stream
  }

  deinit { closedir(stream) }

  /// - Returns: nil at the end.
  package mutating func next() -> String? {
    while let entry = readdir(stream) {
      // SAFETY: the name ends with a NUL inside the entry, which readdir keeps until its next call. An entry can be shorter
      // than `dirent`: only the name is read.
      guard let start = entry.pointer(to: \.d_name.0) else { continue }
      let name = String(cString: start)
      if name != ".", name != ".." { return name }
    }
    return nil
  }

  /// The next names, up to the given number.
  package mutating func next(atMost limit: Int) -> [String] {
    var names: [String] = []
    while names.count < limit, let name = next() { names.append(name) }
    return names
  }
}

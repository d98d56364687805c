// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// This process's environment, and where its own program stands.
package enum ProcessEnvironment {
  /// Name to value; entries without `=` are passed over.
  package static func variables() -> [String: String] {
    var found: [String: String] = [:]
    var entry = environ
    while let line = entry.pointee {
      let text = String(cString: line)
      if let separator = text.firstIndex(of: "=") {
        found[String(text[..<separator])] = String(text[text.index(after: separator)...])
      }
      entry += 1
    }
    return found
  }

  /// The absolute path of the running program (/proc/self/exe), whatever name it was called by.
  ///
  /// - Throws: `FileError` where /proc is missing.
  package static func program() throws(FileError) -> String {
    let link = "/proc/self/exe"
    var path = [CChar](repeating: 0, count: 4096)
    let count = readlink(link, &path, path.count)
    guard count > 0 else { throw FileError(verb: "read", path: link, errno: errno) }
    return String(decoding: path.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

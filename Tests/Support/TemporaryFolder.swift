// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc

/// A folder for one test, removed with all its content. Its path is short, because a socket's path may have 107 bytes.
package final class TemporaryFolder: Sendable {
  package let path: String

  package init() {
    var template = Array("/tmp/vpc-test-XXXXXX".utf8CString)
    path = mkdtemp(&template).map { String(cString: $0) } ?? "/nonexistent"
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of a file in it, existing or not.
  package func path(_ name: String) -> String { "\(path)/\(name)" }

  /// Creates or replaces a file, and returns its path.
  @discardableResult
  package func write(_ name: String, _ text: String = "") throws -> String {
    try text.write(toFile: path(name), atomically: false, encoding: .utf8)
    return path(name)
  }

  /// Creates an executable script, and returns its path.
  ///
  /// Another process writes it. If this process had the file open for writing, so would each child that other tests
  /// start meanwhile, until that child's program begins. The script could not run for as long (ETXTBSY).
  package func program(_ name: String, _ text: String) throws -> String {
    let text = try write(name + ".text", text)
    _ = try CommandResult.run(["install", "-m", "755", text, path(name)]).get()
    return path(name)
  }

  /// The whole text of a file.
  package func text(_ name: String) throws -> String { try String(contentsOfFile: path(name), encoding: .utf8) }
}

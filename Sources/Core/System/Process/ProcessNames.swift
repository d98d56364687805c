// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Names of processes, as far as this process's /proc shows them. Only for guesses: a container sees only its own.
package enum ProcessNames {
  /// The kernel keeps 15 bytes of a name; a machine with more processes than this is not searched to its end.
  private static let limit = 8192

  /// A process's name; nil if it has exited or is not visible.
  package static func name(of process: UInt32) -> String? {
    let descriptor = open("/proc/\(process)/comm", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 64)
    let count = read(descriptor, &bytes, bytes.count)
    guard count > 0 else { return nil }
    return String(decoding: bytes[..<count].prefix { $0 != 0x0a }, as: UTF8.self)
  }

  /// The names among these that living processes have.
  package static func running(among names: Set<String>) -> Set<String> {
    guard var entries = FolderNames("/proc") else { return [] }
    var found: Set<String> = []
    var seen = 0
    while seen < limit, found.count < names.count, let text = entries.next() {
      guard let process = UInt32(text) else { continue }
      seen += 1
      if let name = name(of: process), names.contains(name) { found.insert(name) }
    }
    return found
  }
}

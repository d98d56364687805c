// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// This process's environment, and the path of its program.
package enum ProcessEnvironment {
  /// Name to value; entries without `=` are skipped.
  package static func variables() -> [String: String] {
    var lines: [String] = []
    var entry = environ
    while let line = entry.pointee {
      lines.append(String(cString: line))
      entry += 1
    }
    return variables(lines)
  }

  /// The same for any process's `NAME=value`.
  package static func variables(_ lines: [String]) -> [String: String] {
    var found: [String: String] = [:]
    for line in lines {
      guard let sign = line.firstIndex(of: "=") else { continue }
      found[String(line[..<sign])] = String(line[line.index(after: sign)...])
    }
    return found
  }

  /// The absolute path of the running program (/proc/self/exe), whatever name it was called by.
  ///
  /// - Throws: `FileError` if /proc is missing.
  package static func program() throws(FileError) -> String {
    let link = "/proc/self/exe"
    var path = [CChar](repeating: 0, count: 4096)
    let count = readlink(link, &path, path.count)
    guard count > 0 else { throw FileError(verb: "read", path: link, errno: errno) }
    return String(decoding: path.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// How many descriptors this process may have open, RLIMIT_NOFILE.
package enum OpenFileLimit {
  /// The soft limit, at most `Int32.max`.
  package static var current: Int { Int(clamping: min(limits?.rlim_cur ?? 1_024, rlim_t(Int32.max))) }

  /// Raises the soft limit to `wanted`, as far as the hard limit allows; a higher one stays.
  ///
  /// - Returns: the soft limit now.
  package static func raise(to wanted: Int) -> Int {
    guard var found = limits, found.rlim_cur < rlim_t(wanted) else { return current }
    found.rlim_cur = min(rlim_t(wanted), found.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &found)  // refused: the old limit stays and is returned
    return current
  }

  private static var limits: rlimit? {
    var found = rlimit()
    return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &found) == 0 ? found : nil
  }
}

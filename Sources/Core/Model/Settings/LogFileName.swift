// SPDX-License-Identifier: Apache-2.0

/// Special values of log file settings.
package enum LogFileName {
  /// Whether a setting names standard output: `stdout` in any case, or one of the files that lead to it in every
  /// process. A link to one of those is detected only when it is opened.
  package static func isStdout(_ text: String) -> Bool {
    let files = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"]
    return text.lowercased() == "stdout" || files.contains(text)
  }
}

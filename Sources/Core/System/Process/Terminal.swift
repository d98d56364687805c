// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Output of the command-line tools: whole texts to standard output and standard error.
package enum Terminal {
  package static func say(_ text: String) { write(text, to: STDOUT_FILENO) }
  package static func complain(_ text: String) { write(text, to: STDERR_FILENO) }

  /// Standard output is a terminal with colours.
  package static var showsColour: Bool {
    guard isatty(STDOUT_FILENO) == 1, variable("NO_COLOR").isEmpty else { return false }
    return !["", "dumb"].contains(variable("TERM"))
  }

  /// Standard error is a terminal.
  package static var isWatched: Bool { isatty(STDERR_FILENO) == 1 }

  private static func variable(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }

  private static func write(_ text: String, to descriptor: Int32) {
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      // SAFETY: the bytes are read within the call alone.
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      // If the reader went away (`| head`), there is no way to report.
      guard count > 0 else { return }
      rest = rest.dropFirst(count)
    }
  }
}

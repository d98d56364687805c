// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Output of the command-line tools: whole texts to standard output and standard error. If the reader went away
/// (`| head`), there is no way to report.
package enum Terminal {
  package static func say(_ text: String) { WholeWrite.write(Array(text.utf8), to: STDOUT_FILENO) }
  package static func complain(_ text: String) { WholeWrite.write(Array(text.utf8), to: STDERR_FILENO) }

  /// Standard output is a terminal with colours.
  package static var showsColour: Bool {
    guard isatty(STDOUT_FILENO) == 1, variable("NO_COLOR").isEmpty else { return false }
    return !["", "dumb"].contains(variable("TERM"))
  }

  /// Standard error is a terminal.
  package static var isWatched: Bool { isatty(STDERR_FILENO) == 1 }

  private static func variable(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
}

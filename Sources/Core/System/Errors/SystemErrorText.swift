// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The system's text for an errno.
package enum SystemErrorText {
  /// As strerror has it, the first letter in lower case.
  package static func text(_ errno: Int32) -> String {
    // glibc's strerror answers from constants, or since 2.32 from a buffer of the thread's own. Source: strerror(3).
    guard let pointer = strerror(errno) else { return "error \(errno)" }
    let text = String(cString: pointer)
    return text.prefix(1).lowercased() + text.dropFirst()
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The system's text for an errno.
package enum SystemErrorText {
  /// As strerror has it, the first letter in lower case.
  package static func text(_ errno: Int32) -> String {
    // glibc's strerror returns a constant for every known number, so no other thread can change it.
    guard let pointer = strerror(errno) else { return "error \(errno)" }
    let text = String(cString: pointer)
    return text.prefix(1).lowercased() + text.dropFirst()
  }
}

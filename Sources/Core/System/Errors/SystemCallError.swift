// SPDX-License-Identifier: Apache-2.0

/// A system call that failed, with what it was for.
package struct SystemCallError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Positive.
  package let errno: Int32
  /// Verb and object: `open /proc/sys/net/ipv4/ip_forward`.
  package let call: String

  /// Takes the errno right after the call.
  package init(errno: Int32, call: String) {
    self.errno = errno
    self.call = call
  }

  /// `CALL: system's text (errno N)`.
  package var description: String { "\(call): \(SystemErrorText.text(errno)) (errno \(errno))" }
}

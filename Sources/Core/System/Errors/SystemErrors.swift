// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A file that could not be read or written.
package struct FileError: Error, Sendable, CustomStringConvertible {
  /// The operation: `read`, `write`, `rename`…
  package let verb: String
  package let path: String
  /// The C errno, or 0 if the reason is a limit of this program.
  package let errno: Int32
  package let reason: String

  package init(verb: String, path: String, errno: Int32) {
    self.verb = verb
    self.path = path
    self.errno = errno
    reason = SystemErrorText.text(errno)
  }

  package init(verb: String, path: String, reason: String) {
    self.verb = verb
    self.path = path
    errno = 0
    self.reason = reason
  }

  package var isNotFound: Bool { errno == ENOENT }

  /// As `isNotFound`; also where the path leads through a file.
  package var isAbsent: Bool { errno == ENOENT || errno == ENOTDIR }

  package var description: String { "\(verb) \(path): \(reason)" }
}

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

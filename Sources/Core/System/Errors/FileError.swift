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

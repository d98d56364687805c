// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Reads small configuration files (tokens, certificates, profiles): the counterpart of VPCLinux's `BoundedFile`, which
/// this layer does not import.
package enum SmallFile {
  package struct Failure: Error, CustomStringConvertible {
    package let path: String
    /// 0 if the file itself is invalid.
    package let errno: Int32
    package let reason: String

    package init(path: String, errno: Int32, reason: String) {
      self.path = path
      self.errno = errno
      self.reason = reason
    }

    package var isAbsent: Bool { errno == ENOENT || errno == ENOTDIR }
    package var description: String { "read \(path): \(reason)" }
  }

  /// The bytes of a regular file of at most `maximumSize` bytes.
  package static func read(_ path: String, maximumSize: Int = 1 << 20) throws(Failure) -> [UInt8] {
    guard !path.utf8.contains(0) else { throw Failure(path: path, errno: EINVAL, reason: "the path holds a zero byte") }
    // Without O_NONBLOCK, opening a FIFO would wait for a writer.
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else { throw system(path) }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw system(path) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw Failure(path: path, errno: 0, reason: "not a regular file")
    }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = Glibc.read(file, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw system(path) }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= maximumSize else {
        throw Failure(path: path, errno: 0, reason: "larger than \(maximumSize) bytes")
      }
    }
  }

  private static func system(_ path: String) -> Failure {
    let code = errno
    return Failure(path: path, errno: code, reason: String(cString: strerror(code)).lowercased())
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCSystem

/// Reads a file that others write, piece by piece; only the end of a long one.
enum TailReader {
  /// - Parameters:
  ///   - limit: bytes to read at most.
  ///   - take: receives the pieces in order.
  /// - Returns: bytes left out at the beginning, or at the end of a file without a size.
  /// - Throws: `FileError`, also for a non-regular file such as a symbolic link: a writer of a log folder could link to
  ///   any file. Paths that are links on every node are listed in `followed`.
  static func read(_ path: String, limit: Int, _ take: ([UInt8]) throws -> Void) throws -> Int {
    let nofollow = followed.contains(path) ? 0 : O_NOFOLLOW
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | nofollow)
    guard descriptor >= 0 else { throw FileError(verb: "read", path: path, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileError(verb: "read", path: path, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(verb: "read", path: path, reason: "not a regular file")
    }
    var left = Int(status.st_size) - limit
    if left > 0 {
      guard lseek(descriptor, off_t(left), SEEK_SET) >= 0 else {
        throw FileError(verb: "read", path: path, errno: errno)
      }
      try take(Array("[the first \(left) bytes are left out]\n".utf8))
    }
    // The first line is incomplete, and a truncated secret would not be recognized.
    var isInsideLine = left > 0
    left = max(left, 0)
    var read = 0
    while read < limit {
      var chunk = try piece(descriptor, min(1 << 18, limit - read), path)
      if chunk.isEmpty { return left }
      read += chunk.count
      if isInsideLine {
        guard let end = chunk.firstIndex(of: 0x0a) else {
          left += chunk.count
          continue
        }
        left += end + 1
        chunk.removeFirst(end + 1)
        isInsideLine = false
      }
      try take(chunk)
    }
    // A growing file, or one of /proc without a size: the rest exists but is not counted.
    if status.st_size == 0, try !piece(descriptor, 1, path).isEmpty { left += 1 }
    return left
  }

  private static let followed: Set<String> = ["/etc/resolv.conf", "/etc/os-release", "/etc/mtab"]

  private static func piece(_ descriptor: Int32, _ size: Int, _ path: String) throws(FileError) -> [UInt8] {
    var failure: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      // SAFETY: the kernel writes at most `size` bytes into the buffer of that capacity, and `count` says how many.
      var got = 0
      repeat { got = Glibc.read(descriptor, buffer.baseAddress, size) } while got < 0 && errno == EINTR
      if got < 0 { failure = errno }
      count = max(got, 0)
    }
    guard failure == 0 else { throw FileError(verb: "read", path: path, errno: failure) }
    return bytes
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// Reads a whole file that may be anything: missing, a device, a FIFO without a writer, larger than memory.
package enum BoundedFile {
  /// - Parameter limit: bytes; a larger file is an error, so that a truncated file never counts as complete.
  /// - Throws: `FileError` (`isNotFound` if it is missing), also for a non-regular file and for a path with a NUL, which
  ///   would name another file.
  package static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    guard !path.utf8.contains(0) else {
      throw FileError(verb: "open", path: path, reason: "the path holds a zero byte")
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(verb: "open", path: path, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw FileError(verb: "stat", path: path, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError(verb: "read", path: path, reason: "not a regular file")
    }
    var content: [UInt8] = []
    // Files of /proc and /sys say 0 and have content: the size is a hint only.
    var room = min(limit, max(4096, Int(status.st_size))) + 1
    while true {
      var got = 0
      let chunk = [UInt8](unsafeUninitializedCapacity: room) { buffer, count in
        // SAFETY: the kernel writes at most `room` bytes into the buffer of that capacity, and `count` says how many.
        repeat { got = Glibc.read(descriptor, buffer.baseAddress, room) } while got < 0 && errno == EINTR
        count = max(got, 0)
      }
      guard got >= 0 else { throw FileError(verb: "read", path: path, errno: errno) }
      if got == 0 { return content }
      content += chunk
      guard content.count <= limit else {
        throw FileError(verb: "read", path: path, reason: "larger than the \(limit) bytes allowed")
      }
      room = min(65536, limit - content.count + 1)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import CZlib
internal import Glibc
internal import VPCSystem

/// Reads the end of a gzip-compressed file, such as a rotated log.
package enum GzipFile {
  /// - Parameters:
  ///   - limit: bytes kept of the content's end.
  ///   - inputLimit: the maximum of compressed bytes; a longer file is an error.
  /// - Returns: the end of the content, and the number of bytes before it.
  /// - Throws: `FileError` if it is not a regular file; `ArchiveError` if it is damaged or truncated.
  package static func tail(_ path: String, limit: Int, inputLimit: Int = 256 << 20) throws -> (
    bytes: [UInt8], dropped: Int
  ) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard descriptor >= 0 else { throw FileError(verb: "read", path: path, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size <= inputLimit else {
      throw FileError(verb: "read", path: path, reason: "no regular file of \(inputLimit) bytes at most")
    }
    // zlib keeps a pointer to the stream: it must not move.
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    defer { stream.deallocate() }
    guard czlib_begin_inflate(stream) == Z_OK else { throw ArchiveError("begin to read \(path)", "no memory") }
    defer { inflateEnd(stream) }
    var kept = ChildOutput(limit: limit, surplus: .dropsTheOldest)
    var (input, output) = ([UInt8](repeating: 0, count: 1 << 16), [UInt8](repeating: 0, count: 1 << 18))
    var code = Z_OK
    while code != Z_STREAM_END {
      let count = read(descriptor, &input, input.count)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw ArchiveError("read \(path)", count < 0 ? SystemErrorText.text(errno) : "it is cut") }
      code = input.withUnsafeMutableBufferPointer { input in
        output.withUnsafeMutableBufferPointer { output in
          // SAFETY: zlib reads `count` bytes and writes at most avail_out, within this closure alone.
          stream.pointee.next_in = input.baseAddress
          stream.pointee.avail_in = UInt32(count)
          var code = Z_OK
          repeat {
            stream.pointee.next_out = output.baseAddress
            stream.pointee.avail_out = UInt32(output.count)
            code = inflate(stream, Z_NO_FLUSH)
            let made = output.count - Int(stream.pointee.avail_out)
            _ = kept.append(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(output)[..<made]))
          } while code == Z_OK && stream.pointee.avail_out == 0
          return code
        }
      }
      // Z_BUF_ERROR: it wants more input.
      guard code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR else {
        throw ArchiveError("read \(path)", "it is damaged")
      }
    }
    kept.trim()
    return (kept.bytes, kept.dropped)
  }
}

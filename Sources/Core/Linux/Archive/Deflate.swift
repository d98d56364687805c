// SPDX-License-Identifier: Apache-2.0

internal import CZlib

/// A self-contained piece of a deflate stream (RFC 1951): pieces concatenated in any order are one stream. So parts are
/// compressed in parallel and written as they finish.
package struct DeflatedPiece: Sendable {
  package let bytes: [UInt8]
  /// CRC-32 of the uncompressed bytes.
  package let checksum: UInt32
  /// Bytes before compression.
  package let length: Int
}

/// Compresses one piece. Memory: 256 KiB and the compressed bytes.
package struct Deflate: ~Copyable {
  // zlib keeps a pointer to the stream: it must not move.
  private let stream: UnsafeMutablePointer<z_stream>
  private var output: [UInt8] = []
  private var checksum: UInt32 = 0
  private var length = 0

  /// - Throws: `ArchiveError` if memory is short.
  package init() throws(ArchiveError) {
    stream = .allocate(capacity: 1)
    stream.initialize(to: z_stream())
    guard czlib_begin_deflate(stream) == Z_OK else {
      stream.deallocate()
      throw ArchiveError("begin to compress", "no memory")
    }
  }

  deinit {
    deflateEnd(stream)
    stream.deallocate()
  }

  package mutating func add(_ bytes: [UInt8]) throws(ArchiveError) {
    guard !bytes.isEmpty else { return }
    checksum = bytes.withUnsafeBufferPointer { buffer in
      UInt32(truncatingIfNeeded: crc32_z(UInt(checksum), buffer.baseAddress, z_size_t(buffer.count)))
    }
    length += bytes.count
    try run(bytes, Z_NO_FLUSH)
  }

  /// Ends the piece at a byte, with nothing pending.
  package consuming func end() throws(ArchiveError) -> DeflatedPiece {
    try run([], Z_FULL_FLUSH)
    return DeflatedPiece(bytes: output, checksum: checksum, length: length)
  }

  private mutating func run(_ bytes: [UInt8], _ flush: Int32) throws(ArchiveError) {
    var rest = bytes[...]
    repeat {
      // zlib counts a piece of input in 32 bits.
      let step = rest.prefix(1 << 20)
      rest = rest.dropFirst(step.count)
      try step.withUnsafeBufferPointer { input throws(ArchiveError) in
        // SAFETY: zlib reads the input within this closure alone, and does not write to it.
        stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
        stream.pointee.avail_in = UInt32(input.count)
        try drain(flush)
        stream.pointee.next_in = nil
      }
    } while !rest.isEmpty
  }

  private mutating func drain(_ flush: Int32) throws(ArchiveError) {
    var room = 0
    repeat {
      var code: Int32 = 0
      let chunk = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
        // SAFETY: zlib writes at most avail_out bytes, and says how many are left.
        stream.pointee.next_out = buffer.baseAddress
        stream.pointee.avail_out = UInt32(buffer.count)
        code = deflate(stream, flush)
        room = Int(stream.pointee.avail_out)
        count = buffer.count - room
      }
      // Z_BUF_ERROR: nothing to do.
      guard code == Z_OK || code == Z_BUF_ERROR else { throw ArchiveError("compress", "zlib says \(code)") }
      output += chunk
    } while room == 0
  }
}

/// An archive that cannot be written or read.
package struct ArchiveError: Error, Sendable, CustomStringConvertible {
  package let description: String

  init(_ call: String, _ reason: String) { description = "\(call): \(reason)" }
}

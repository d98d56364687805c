// SPDX-License-Identifier: Apache-2.0

internal import CZlib
internal import Glibc
package import VPCSystem

/// A compressed tar archive written to a descriptor, file by file: one gzip member (RFC 1952) around one deflate stream.
///
/// Needs no programs of the node: not every node has tar and gzip.
package struct ArchiveStream {
  /// Bytes written, compressed.
  package private(set) var size = 0
  /// Bytes of tar.
  package private(set) var length = 0
  package private(set) var files = 0

  private let descriptor: Int32
  private let path: String
  private var checksum: UInt32 = 0

  /// Writes the gzip header.
  ///
  /// - Parameter path: for errors' texts.
  package init(descriptor: Int32, path: String) throws(FileError) {
    self.descriptor = descriptor
    self.path = path
    // No name, no time, by deflate, from Unix.
    try write([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])
  }

  /// Adds a file whose content was compressed elsewhere.
  ///
  /// - Throws: `FileError`, `ArchiveError`; the archive is then unusable.
  package mutating func add(_ content: DeflatedPiece, name: String, modified: Int64) throws {
    try add(bytes: TarHeader(name: name, size: content.length, modified: modified).bytes)
    try add(content)
    try add(bytes: TarHeader.padding(content.length))
    files += 1
  }

  /// Ends tar, deflate and gzip. The descriptor stays open.
  package mutating func end() throws {
    try add(bytes: TarHeader.end)
    // A final empty block with fixed codes.
    var tail: [UInt8] = [0x03, 0x00]
    for value in [checksum, UInt32(truncatingIfNeeded: length)] {
      for shift in stride(from: 0, to: 32, by: 8) { tail.append(UInt8(truncatingIfNeeded: value >> UInt32(shift))) }
    }
    try write(tail)
  }

  private mutating func add(bytes: [UInt8]) throws {
    guard !bytes.isEmpty else { return }
    var deflate = try Deflate()
    try deflate.add(bytes)
    try add(try deflate.end())
  }

  private mutating func add(_ piece: DeflatedPiece) throws(FileError) {
    try write(piece.bytes)
    checksum = UInt32(
      truncatingIfNeeded: crc32_combine(UInt(checksum), UInt(piece.checksum), piece.length))
    length += piece.length
  }

  private mutating func write(_ bytes: [UInt8]) throws(FileError) {
    try AtomicFile.writeAll(bytes, to: descriptor, path: path)
    size += bytes.count
  }
}

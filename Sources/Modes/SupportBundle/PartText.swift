// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The text of one part on its way into the archive: only one piece is in memory, except for a JSON document.
struct PartText: ~Copyable {
  struct Finished {
    let content: DeflatedPiece
    let redacted: [SecretKind: Int]
    let cutLines: Int
    /// Bytes that came too late.
    let lost: Int
  }

  private var redactor = Redactor()
  private var deflate: Deflate
  private let isJSON: Bool
  private var document: [UInt8] = []
  private let end: ContinuousClock.Instant
  private var lost = 0

  /// - Parameter end: later data is dropped and counted.
  init(isJSON: Bool, end: ContinuousClock.Instant) throws {
    self.end = end
    deflate = try Deflate()
    self.isJSON = isJSON
  }

  mutating func add(_ bytes: [UInt8]) throws {
    if isJSON {
      document += bytes
    } else {
      try pass(bytes)
    }
  }

  private mutating func pass(_ bytes: [UInt8]) throws {
    // One piece is short work, but a long log has many, and other parts need the processors too.
    for start in stride(from: 0, to: bytes.count, by: 1 << 18) {
      let piece = bytes[start..<min(start + 1 << 18, bytes.count)]
      guard ContinuousClock.now < end else {
        lost += piece.count
        continue
      }
      try compress(piece)
    }
  }

  private mutating func compress(_ bytes: ArraySlice<UInt8>) throws {
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count)
    // Environments and command lines of /proc are separated by zeros.
    redactor.take(bytes.contains(0) ? bytes.map { $0 == 0 ? 0x0a : $0 }[...] : bytes, into: &output)
    try deflate.add(output)
  }

  consuming func finish() throws -> Finished {
    if isJSON {
      let whole = document
      // Anything but JSON is added unchanged.
      let parsed = try? JSONParser.parse(whole, limits: JSONParser.Limits(size: 16 << 20, depth: 64))
      try pass(parsed.map { Array(($0.indented(by: 2) + "\n").utf8) } ?? whole)
    }
    var output: [UInt8] = []
    redactor.finish(into: &output)
    try deflate.add(output)
    let (found, cut, lost) = (redactor.found, redactor.cutLines, lost)
    return Finished(content: try deflate.end(), redacted: found, cutLines: cut, lost: lost)
  }
}

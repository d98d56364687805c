// SPDX-License-Identifier: Apache-2.0

/// The header blocks of a file in a tar archive: ustar (POSIX.1-1988), preceded by a pax record (POSIX.1-2001) for a
/// name that does not fit into ustar.
package struct TarHeader: Sendable {
  package static let blockSize = 512
  /// The end of an archive.
  package static let end = [UInt8](repeating: 0, count: 2 * blockSize)

  /// Relative, with slashes.
  package let name: String
  package let size: Int
  /// Seconds since 1970.
  package let modified: Int64
  package var mode: Int = 0o600

  package init(name: String, size: Int, modified: Int64) {
    self.name = name
    self.size = size
    self.modified = modified
  }

  /// Whole blocks.
  package var bytes: [UInt8] {
    if let parts = split() { return block(name: parts.name, prefix: parts.prefix, size: size, kind: "0") }
    let record = paxRecord("path", name)
    let short = Array("pax/\(Array(name.utf8).suffix(80).map { $0 > 32 && $0 < 127 ? $0 : 95 }.count)".utf8)
    return block(name: short, prefix: [], size: record.count, kind: "x") + record
      + TarHeader.padding(record.count) + block(name: short, prefix: [], size: size, kind: "0")
  }

  /// Zeros up to the next block.
  package static func padding(_ size: Int) -> [UInt8] {
    [UInt8](repeating: 0, count: (blockSize - size % blockSize) % blockSize)
  }

  /// Nil if the name is too long or not ASCII.
  private func split() -> (name: [UInt8], prefix: [UInt8])? {
    let bytes = Array(name.utf8)
    guard bytes.allSatisfy({ $0 < 128 }) else { return nil }
    if bytes.count <= 100 { return (bytes, []) }
    for (at, byte) in bytes.enumerated() where byte == UInt8(ascii: "/") && at <= 155 && at > 0 {
      let rest = bytes[(at + 1)...]
      if rest.count <= 100, !rest.isEmpty { return (Array(rest), Array(bytes[..<at])) }
    }
    return nil
  }

  /// `LENGTH KEY=VALUE\n`, the length counting its own digits.
  private func paxRecord(_ key: String, _ value: String) -> [UInt8] {
    let rest = Array(" \(key)=\(value)\n".utf8)
    var length = rest.count
    while String(length).utf8.count + rest.count != length { length = String(length).utf8.count + rest.count }
    return Array(String(length).utf8) + rest
  }

  private func block(name: [UInt8], prefix: [UInt8], size: Int, kind: Character) -> [UInt8] {
    var block: [UInt8] = []
    func text(_ bytes: [UInt8], _ width: Int) {
      block += bytes.prefix(width) + [UInt8](repeating: 0, count: max(width - bytes.count, 0))
    }
    func octal(_ value: Int, _ width: Int) {
      let digits = String(value, radix: 8)
      text(Array((String(repeating: "0", count: max(width - 1 - digits.count, 0)) + digits).utf8), width)
    }
    text(name, 100)
    octal(mode, 8)
    octal(0, 8)
    octal(0, 8)
    octal(size, 12)
    octal(Int(max(modified, 0)), 12)
    text(Array("        ".utf8), 8)
    text(Array(String(kind).utf8), 1)
    text([], 100)
    text(Array("ustar".utf8), 6)
    text(Array("00".utf8), 2)
    text(Array("root".utf8), 32)
    text(Array("root".utf8), 32)
    octal(0, 8)
    octal(0, 8)
    text(prefix, 155)
    text([], 12)
    let sum = block.reduce(0) { $0 + Int($1) }
    let digits = String(sum, radix: 8)
    block.replaceSubrange(
      148..<156, with: Array((String(repeating: "0", count: 6 - digits.count) + digits).utf8) + [0, 0x20])
    return block
  }
}

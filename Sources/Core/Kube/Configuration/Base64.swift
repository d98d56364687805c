// SPDX-License-Identifier: Apache-2.0

/// RFC 4648 base64, the standard alphabet; line ends and spaces are ignored.
enum Base64 {
  /// Nil for a character of another alphabet, padding in the middle, or a length that no encoder makes.
  static func decode(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 4 * 3)
    var bits: UInt32 = 0
    var digits = 0
    var padding = 0
    for byte in text.utf8 where byte != 0x0a && byte != 0x0d && byte != 0x20 && byte != 0x09 {
      if byte == UInt8(ascii: "=") {
        padding += 1
        continue
      }
      guard padding == 0, let value = value(byte) else { return nil }
      bits = bits << 6 | value
      digits += 1
      guard digits % 4 == 0 else { continue }
      bytes += [UInt8(bits >> 16 & 0xff), UInt8(bits >> 8 & 0xff), UInt8(bits & 0xff)]
      bits = 0
    }
    switch (digits % 4, padding) {
    case (0, 0): return bytes
    case (2, 0), (2, 2): return bytes + [UInt8(bits >> 4 & 0xff)]
    case (3, 0), (3, 1): return bytes + [UInt8(bits >> 10 & 0xff), UInt8(bits >> 2 & 0xff)]
    default: return nil
    }
  }

  private static func value(_ byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - 65)
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - 71)
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte + 4)
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}

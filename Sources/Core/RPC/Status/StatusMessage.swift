// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The text of `grpc-message`: UTF-8 in which everything but printable ASCII, and the percent sign, is `%XX`.
///
/// Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md (Percent-Encoded)
enum StatusMessage {
  /// The maximum length of a peer's message, so that a hostile one does not fill logs and events.
  static let limit = 4_096

  static func encode(_ text: String) -> String {
    var out: [UInt8] = []
    // Whole characters are dropped, never half of one: a cut inside `%XX` sequences would decode to damaged text.
    for scalar in text.unicodeScalars.prefix(limit) {
      for byte in String(scalar).utf8 {
        if (0x20...0x7e).contains(byte), byte != 0x25 {
          out.append(byte)
        } else {
          out += "%\(HexDigits.encode([byte]).uppercased())".utf8
        }
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Never fails: a broken sequence stays as it is, and bytes that are not UTF-8 become U+FFFD.
  static func decode(_ bytes: [UInt8]) -> String {
    var out: [UInt8] = []
    var index = 0
    while index < bytes.count, out.count < limit {
      if bytes[index] == 0x25, index + 2 < bytes.count, let high = HexDigits.value(bytes[index + 1]),
        let low = HexDigits.value(bytes[index + 2])
      {
        out.append(high << 4 | low)
        index += 3
      } else {
        out.append(bytes[index])
        index += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Times as Go encodes them in JSON.
enum GoTime {
  /// Go's zero time.
  static let never = "0001-01-01T00:00:00Z"

  /// RFC 3339 in UTC with up to nine digits behind the point, the zeros at its end left out.
  ///
  /// - Parameter unixNanoseconds: since 1970.
  /// Source: time.RFC3339Nano of Go's library.
  static func text(unixNanoseconds: Int64) -> String {
    let billion: Int64 = 1_000_000_000
    let seconds = unixNanoseconds >= 0 ? unixNanoseconds / billion : (unixNanoseconds - (billion - 1)) / billion
    let text = UTCTime(seconds: seconds).description
    let rest = unixNanoseconds - seconds * billion
    guard rest != 0 else { return text }
    var digits = Array(String(rest).utf8)
    digits = Array(repeating: UInt8(ascii: "0"), count: 9 - digits.count) + digits
    while digits.last == UInt8(ascii: "0") { digits.removeLast() }
    return "\(text.dropLast()).\(String(decoding: digits, as: UTF8.self))Z"
  }
}

/// RFC 4648, section 4: Go's encoding of a byte slice.
enum Base64 {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  static func encode(_ bytes: [UInt8]) -> String {
    var out: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let group = bytes[start..<min(start + 3, bytes.count)]
      var bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
      bits <<= UInt32(8 * (3 - group.count))
      for index in 0..<4 {
        let digit = Int(bits >> UInt32(18 - 6 * index) & 63)
        out.append(index <= group.count ? alphabet[digit] : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}

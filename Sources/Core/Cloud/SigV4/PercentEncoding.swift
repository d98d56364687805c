// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Percent-encoding as AWS signs it: everything but RFC 3986's unreserved characters, upper-case hex.
package enum PercentEncoding {
  package static func encode(_ text: some StringProtocol) -> String {
    var out: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
        out.append(byte)
      default:
        out.append(UInt8(ascii: "%"))
        out += HexDigits.encode([byte]).uppercased().utf8
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Undoes `encode`; a percent sign that begins no pair of hex digits stays as it is.
  package static func decode(_ text: some StringProtocol) -> String {
    let bytes = Array(text.utf8)
    var out: [UInt8] = []
    var at = 0
    while at < bytes.count {
      if bytes[at] == UInt8(ascii: "%"), at + 2 < bytes.count, let high = HexDigits.value(bytes[at + 1]),
        let low = HexDigits.value(bytes[at + 2])
      {
        out.append(high << 4 | low)
        at += 3
      } else {
        out.append(bytes[at])
        at += 1
      }
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// `name=value&…` in the order given, the body of an AWS query request. A space is `+`, as forms and the AWS SDKs have
  /// it.
  package static func form(_ fields: [(name: String, value: String)]) -> String {
    func field(_ text: String) -> String {
      text.split(separator: " ", omittingEmptySubsequences: false).map { encode($0) }.joined(separator: "+")
    }
    return fields.map { "\(field($0.name))=\(field($0.value))" }.joined(separator: "&")
  }
}

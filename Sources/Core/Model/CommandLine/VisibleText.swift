// SPDX-License-Identifier: Apache-2.0

extension String {
  /// The text with every terminal control character escaped as in JSON: `\u001b`.
  ///
  /// For external text (an answer, a file, a user's name) on a terminal: control characters (also those of C1, of which
  /// U+009B begins a sequence as ESC [ does), line breaks, and marks that change the direction of what follows.
  package var visible: String {
    guard unicodeScalars.contains(where: String.isActedOn) else { return self }
    return escaped(where: String.isActedOn)
  }

  /// The same for multi-line text, whose line feeds stay. A JSON document stays one: outside its strings it has none of
  /// the others.
  package var visibleLines: String {
    let isActedOn = { (scalar: Unicode.Scalar) in scalar != "\n" && String.isActedOn(scalar) }
    guard unicodeScalars.contains(where: isActedOn) else { return self }
    return escaped(where: isActedOn)
  }

  private func escaped(where isActedOn: (Unicode.Scalar) -> Bool) -> String {
    var out = ""
    for scalar in unicodeScalars {
      if isActedOn(scalar) {
        // All of them have four digits.
        out += "\\u" + HexDigits.encode([UInt8(scalar.value >> 8 & 0xff), UInt8(scalar.value & 0xff)])
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func isActedOn(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0..<0x20, 0x7f..<0xa0: true
    case 0x200e, 0x200f, 0x2028, 0x2029, 0x202a...0x202e, 0x2066...0x2069, 0x061c: true
    default: false
    }
  }
}

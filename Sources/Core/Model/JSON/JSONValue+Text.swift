// SPDX-License-Identifier: Apache-2.0

extension JSONValue {
  /// The document on one line without spaces, UTF-8.
  package var bytes: [UInt8] {
    var out: [UInt8] = []
    write(to: &out, indent: nil, level: 0)
    return out
  }

  /// The document on one line.
  package var text: String { String(decoding: bytes, as: UTF8.self) }

  /// The document with one member a line, each level `width` spaces further in.
  package func indented(by width: Int) -> String {
    var out: [UInt8] = []
    write(to: &out, indent: width, level: 0)
    return String(decoding: out, as: UTF8.self)
  }

  private func write(to out: inout [UInt8], indent: Int?, level: Int) {
    switch self {
    case .null: out += "null".utf8
    case .bool(let value): out += (value ? "true" : "false").utf8
    case .number(let text): out += text.utf8
    case .string(let text): JSONValue.writeString(text, to: &out)
    case .array(let items):
      JSONValue.writeList(items, open: "[", close: "]", to: &out, indent: indent, level: level) { item, out in
        item.write(to: &out, indent: indent, level: level + 1)
      }
    case .object(let object):
      JSONValue.writeList(object.members, open: "{", close: "}", to: &out, indent: indent, level: level) {
        member, out in
        JSONValue.writeString(member.key, to: &out)
        out += (indent == nil ? ":" : ": ").utf8
        member.value.write(to: &out, indent: indent, level: level + 1)
      }
    }
  }

  private static func writeList<Item>(
    _ items: [Item], open: Unicode.Scalar, close: Unicode.Scalar, to out: inout [UInt8], indent: Int?, level: Int,
    item write: (Item, inout [UInt8]) -> Void
  ) {
    out.append(UInt8(ascii: open))
    let newLine = { (level: Int, out: inout [UInt8]) in
      guard let indent else { return }
      out.append(0x0a)
      out += Array(repeating: 0x20, count: indent * level)
    }
    for (index, item) in items.enumerated() {
      if index > 0 { out.append(UInt8(ascii: ",")) }
      newLine(level + 1, &out)
      write(item, &out)
    }
    if !items.isEmpty { newLine(level, &out) }
    out.append(UInt8(ascii: close))
  }

  private static func writeString(_ text: String, to out: inout [UInt8]) {
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): out += "\\\"".utf8
      case UInt8(ascii: "\\"): out += "\\\\".utf8
      case 0x0a: out += "\\n".utf8
      case 0x0d: out += "\\r".utf8
      case 0x09: out += "\\t".utf8
      case 0..<0x20: out += "\\u00\(HexDigits.encode([byte]))".utf8
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}

// SPDX-License-Identifier: Apache-2.0

/// Parses one RFC 8259 document from untrusted bytes.
package struct JSONParser {
  /// Why a text is not accepted.
  package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
    /// Bytes from the start.
    package let offset: Int
    package let reason: String
    package var description: String { "invalid JSON at byte \(offset): \(reason)" }
  }

  /// Limits for any input.
  package struct Limits: Sendable {
    /// Bytes of the whole document.
    package var size: Int
    /// Arrays and objects inside each other.
    package var depth: Int

    package init(size: Int = 1 << 20, depth: Int = 64) {
      self.size = size
      self.depth = depth
    }
  }

  private let text: [UInt8]
  private let limits: Limits
  private var at = 0

  private init(_ text: [UInt8], limits: Limits) {
    self.text = text
    self.limits = limits
  }

  /// - Parameters:
  ///   - text: UTF-8, white space allowed around the one value.
  ///   - fields: the wanted members; the rest is checked and dropped.
  /// - Throws: `Failure` for a text that is too long, too deep, not UTF-8 in a string, or not JSON.
  package static func parse(
    _ text: [UInt8], limits: Limits = Limits(), keeping fields: JSONSelection = .all
  ) throws(Failure) -> JSONValue {
    guard text.count <= limits.size else {
      throw Failure(offset: limits.size, reason: "\(text.count) bytes are more than the \(limits.size) allowed")
    }
    var parser = JSONParser(text, limits: limits)
    let value = try parser.value(depth: 0, fields)
    parser.skipSpace()
    guard parser.at == text.count else { throw parser.failure("something follows the document") }
    return value
  }

  private func failure(_ reason: String) -> Failure { Failure(offset: at, reason: reason) }

  private mutating func skipSpace() {
    while at < text.count, text[at] == 0x20 || text[at] == 0x0a || text[at] == 0x0d || text[at] == 0x09 { at += 1 }
  }

  private mutating func take(_ ascii: Unicode.Scalar) -> Bool {
    guard at < text.count, text[at] == UInt8(ascii: ascii) else { return false }
    at += 1
    return true
  }

  private mutating func value(depth: Int, _ fields: JSONSelection) throws(Failure) -> JSONValue {
    guard depth <= limits.depth else { throw failure("nested deeper than \(limits.depth)") }
    skipSpace()
    guard at < text.count else { throw failure("the text ends where a value should begin") }
    switch text[at] {
    case UInt8(ascii: "{"): return .object(try object(depth: depth, fields))
    case UInt8(ascii: "["): return .array(try array(depth: depth, fields))
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return .number(try number())
    }
  }

  private mutating func word(_ word: StaticString, _ value: JSONValue) throws(Failure) -> JSONValue {
    let end = at + word.utf8CodeUnitCount
    guard end <= text.count, text[at..<end].elementsEqual("\(word)".utf8) else {
      throw failure("neither true, false nor null")
    }
    at = end
    return value
  }

  private mutating func object(depth: Int, _ fields: JSONSelection) throws(Failure) -> JSONObject {
    at += 1
    var members: [JSONObject.Member] = []
    skipSpace()
    if take("}") { return JSONObject() }
    while true {
      skipSpace()
      guard at < text.count, text[at] == UInt8(ascii: "\"") else { throw failure("a member's name must be a string") }
      let key = try string()
      skipSpace()
      guard take(":") else { throw failure("no colon after the name \"\(key.prefix(64))\"") }
      if let wanted = fields.member(key) {
        members.append(JSONObject.Member(key: key, value: try value(depth: depth + 1, wanted)))
      } else {
        try skip(depth: depth + 1)
      }
      skipSpace()
      if take(",") { continue }
      guard take("}") else { throw failure("neither comma nor closing brace after a member") }
      return JSONObject(members: members)
    }
  }

  private mutating func array(depth: Int, _ fields: JSONSelection) throws(Failure) -> [JSONValue] {
    at += 1
    var items: [JSONValue] = []
    skipSpace()
    if take("]") { return [] }
    while true {
      items.append(try value(depth: depth + 1, fields))
      skipSpace()
      if take(",") { continue }
      guard take("]") else { throw failure("neither comma nor closing bracket after an item") }
      return items
    }
  }

  /// Skips an unwanted value: as strict as parsing it, except for escapes and UTF-8 in strings.
  private mutating func skip(depth: Int) throws(Failure) {
    guard depth <= limits.depth else { throw failure("nested deeper than \(limits.depth)") }
    skipSpace()
    guard at < text.count else { throw failure("the text ends where a value should begin") }
    switch text[at] {
    case UInt8(ascii: "{"): try skipList(closedBy: "}", depth: depth, isObject: true)
    case UInt8(ascii: "["): try skipList(closedBy: "]", depth: depth, isObject: false)
    case UInt8(ascii: "\""): try skipString()
    case UInt8(ascii: "t"): _ = try word("true", .null)
    case UInt8(ascii: "f"): _ = try word("false", .null)
    case UInt8(ascii: "n"): _ = try word("null", .null)
    default: _ = try number()
    }
  }

  private mutating func skipList(closedBy end: Unicode.Scalar, depth: Int, isObject: Bool) throws(Failure) {
    at += 1
    skipSpace()
    if take(end) { return }
    while true {
      if isObject {
        skipSpace()
        guard at < text.count, text[at] == UInt8(ascii: "\"") else { throw failure("a member's name must be a string") }
        try skipString()
        skipSpace()
        guard take(":") else { throw failure("no colon after a name") }
      }
      try skip(depth: depth + 1)
      skipSpace()
      if take(",") { continue }
      guard take(end) else { throw failure("neither comma nor closing bracket after a value") }
      return
    }
  }

  private mutating func skipString() throws(Failure) {
    at += 1
    while at < text.count, text[at] != UInt8(ascii: "\"") {
      guard text[at] >= 0x20 else { throw failure("a control character in a string") }
      at += text[at] == UInt8(ascii: "\\") ? 2 : 1
    }
    guard at < text.count else { throw failure("a string is not closed") }
    at += 1
  }

  private mutating func number() throws(Failure) -> String {
    let start = at
    _ = take("-")
    if take("0") {
      // No digit may follow a leading zero.
    } else if digits() == 0 {
      at = start
      throw failure("no value begins here")
    }
    if take("."), digits() == 0 { throw failure("no digit after the decimal point") }
    if at < text.count, text[at] | 0x20 == UInt8(ascii: "e") {
      at += 1
      if !take("+") { _ = take("-") }
      if digits() == 0 { throw failure("no digit in the exponent") }
    }
    return String(decoding: text[start..<at], as: UTF8.self)
  }

  private mutating func digits() -> Int {
    let start = at
    while at < text.count, 48...57 ~= text[at] { at += 1 }
    return at - start
  }

  private mutating func string() throws(Failure) -> String {
    at += 1
    let start = at
    while at < text.count, text[at] != UInt8(ascii: "\""), text[at] != UInt8(ascii: "\\"), text[at] >= 0x20 { at += 1 }
    if at < text.count, text[at] == UInt8(ascii: "\"") {
      let plain = try decode(text[start..<at])
      at += 1
      return plain
    }
    return try escapedString(from: start)
  }

  private mutating func escapedString(from start: Int) throws(Failure) -> String {
    var bytes = Array(text[start..<at])
    while at < text.count {
      switch text[at] {
      case UInt8(ascii: "\""):
        let string = try decode(bytes[...])
        at += 1
        return string
      case UInt8(ascii: "\\"):
        at += 1
        bytes += Array(String(try escape()).utf8)
      case 0..<0x20: throw failure("a control character inside a string")
      default:
        bytes.append(text[at])
        at += 1
      }
    }
    throw failure("a string is not closed")
  }

  private func decode(_ bytes: ArraySlice<UInt8>) throws(Failure) -> String {
    guard let string = String(validating: bytes, as: UTF8.self) else { throw failure("a string is not UTF-8") }
    return string
  }

  private mutating func escape() throws(Failure) -> Unicode.Scalar {
    guard at < text.count else { throw failure("a string is not closed") }
    defer { at += 1 }
    switch text[at] {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"): return try unicodeEscape()
    default: throw failure("an unknown escape")
    }
  }

  /// Leaves `at` on the last digit. A lone surrogate becomes U+FFFD, as in other languages.
  private mutating func unicodeEscape() throws(Failure) -> Unicode.Scalar {
    let high = try fourDigits()
    guard 0xd800...0xdfff ~= high else { return Unicode.Scalar(high) ?? "\u{fffd}" }
    guard high < 0xdc00, at + 2 < text.count, text[at + 1] == UInt8(ascii: "\\"), text[at + 2] == UInt8(ascii: "u")
    else {
      return "\u{fffd}"
    }
    let mark = at
    at += 2
    let low = try fourDigits()
    guard 0xdc00...0xdfff ~= low else {
      at = mark
      return "\u{fffd}"
    }
    return Unicode.Scalar(0x10000 + (high - 0xd800) << 10 + (low - 0xdc00)) ?? "\u{fffd}"
  }

  private mutating func fourDigits() throws(Failure) -> UInt32 {
    guard at + 4 < text.count else { throw failure("a unicode escape is cut short") }
    var code: UInt32 = 0
    for _ in 0..<4 {
      at += 1
      guard let digit = HexDigits.value(text[at]) else { throw failure("a unicode escape needs four hex digits") }
      code = code << 4 | UInt32(digit)
    }
    return code
  }
}

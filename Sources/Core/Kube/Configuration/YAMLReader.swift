// SPDX-License-Identifier: Apache-2.0
//
// The part of YAML 1.2 that a kubeconfig is written in: one document of block mappings and block lists, scalars plain,
// quoted or literal (`|`), empty `{}` and `[]`, remarks. Everything else (anchors, tags, other flow collections, tabs,
// folded scalars, several documents, a name twice) is refused with its line, never guessed at.

internal import VPCModel

/// Reads a YAML text into the tree that JSON is read into.
struct YAMLReader {
  /// Why a text is not accepted.
  struct Failure: Error, Hashable, CustomStringConvertible {
    /// From 1.
    let line: Int
    let reason: String
    var description: String { "line \(line): \(reason)" }
  }

  private struct Line {
    let number: Int
    let indent: Int
    /// Without indentation and line end; remarks still in it.
    let text: Substring
  }

  private static let maximumDepth = 32
  private var lines: [Line] = []
  private var at = 0

  /// - Parameter bytes: UTF-8, at most 1 MiB.
  static func parse(_ bytes: [UInt8]) throws(Failure) -> JSONValue {
    guard bytes.count <= 1 << 20 else { throw Failure(line: 1, reason: "longer than 1 MiB") }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw Failure(line: 1, reason: "not UTF-8") }
    var reader = try YAMLReader(text)
    guard let first = reader.next() else { throw Failure(line: 1, reason: "the text is empty") }
    let value = try reader.block(indent: first.indent, depth: 0)
    if let rest = reader.next() { throw Failure(line: rest.number, reason: "does not belong to anything before it") }
    return value
  }

  private init(_ text: String) throws(Failure) {
    var number = 0
    for raw in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      let body = raw.drop { $0 == " " }
      if body.first == "\t" { throw Failure(line: number, reason: "a tab before the text") }
      if raw == "---", !lines.contains(where: { !YAMLReader.isBlank($0.text) }) { continue }
      if raw.hasPrefix("---") || raw.hasPrefix("...") { throw Failure(line: number, reason: "a second document") }
      if raw.hasPrefix("%") { throw Failure(line: number, reason: "a directive") }
      lines.append(Line(number: number, indent: raw.utf8.count - body.utf8.count, text: body))
    }
  }

  private static func isBlank(_ text: Substring) -> Bool { text.isEmpty || text.first == "#" }

  /// The next line with something on it.
  private mutating func next() -> Line? {
    while at < lines.count, YAMLReader.isBlank(lines[at].text) { at += 1 }
    return at < lines.count ? lines[at] : nil
  }

  private mutating func block(indent: Int, depth: Int) throws(Failure) -> JSONValue {
    guard let line = next() else { return .null }
    guard depth <= YAMLReader.maximumDepth else { throw Failure(line: line.number, reason: "nested too deep") }
    if line.text == "-" || line.text.hasPrefix("- ") { return try list(indent: indent, depth: depth) }
    if let (key, rest) = try key(line), key != "" || !rest.isEmpty { return try mapping(indent: indent, depth: depth) }
    at += 1
    return try scalar(line.text, line, indent: indent)
  }

  private mutating func mapping(indent: Int, depth: Int) throws(Failure) -> JSONValue {
    var object = JSONObject()
    while let line = next(), line.indent >= indent {
      guard line.indent == indent else {
        throw Failure(line: line.number, reason: "indented further than its neighbours")
      }
      if line.text == "-" || line.text.hasPrefix("- ") { break }
      guard let (key, rest) = try key(line) else { throw Failure(line: line.number, reason: "no \"name: value\"") }
      guard object[key] == nil else { throw Failure(line: line.number, reason: "\"\(key.prefix(64))\" stands twice") }
      at += 1
      object[key] = try value(rest, of: line, indent: indent, depth: depth)
    }
    return .object(object)
  }

  private mutating func list(indent: Int, depth: Int) throws(Failure) -> JSONValue {
    var items: [JSONValue] = []
    while let line = next(), line.indent == indent, line.text == "-" || line.text.hasPrefix("- ") {
      let body = line.text.dropFirst().drop { $0 == " " }
      if YAMLReader.isBlank(body) {
        at += 1
        let inner = next().map(\.indent) ?? 0
        items.append(inner > indent ? try block(indent: inner, depth: depth + 1) : .null)
      } else {
        // What follows the dash is a block of its own, as far in as it stands there.
        let inner = indent + line.text.utf8.count - body.utf8.count
        lines[at] = Line(number: line.number, indent: inner, text: body)
        items.append(try block(indent: inner, depth: depth + 1))
      }
    }
    if let line = next(), line.indent > indent { throw Failure(line: line.number, reason: "belongs to no item") }
    return .array(items)
  }

  /// What stands behind a name: on its line, or as a block below it. A list may stand as far out as its name.
  private mutating func value(_ rest: Substring, of line: Line, indent: Int, depth: Int) throws(Failure) -> JSONValue {
    guard YAMLReader.isBlank(rest) else { return try scalar(rest, line, indent: indent) }
    guard let inner = next() else { return .null }
    let isList = inner.text == "-" || inner.text.hasPrefix("- ")
    guard inner.indent > indent || (isList && inner.indent == indent) else { return .null }
    return try block(indent: inner.indent, depth: depth + 1)
  }

  /// Splits `name: rest`; nil where the line has no such form.
  private func key(_ line: Line) throws(Failure) -> (key: String, rest: Substring)? {
    if line.text.first == "\"" || line.text.first == "'" {
      let (text, rest) = try quoted(line.text, line)
      let after = rest.drop { $0 == " " }
      guard after.first == ":" else { return nil }
      return (text, after.dropFirst().drop { $0 == " " })
    }
    var index = line.text.startIndex
    while let colon = line.text[index...].firstIndex(of: ":") {
      let after = line.text[line.text.index(after: colon)...]
      if after.isEmpty || after.first == " " {
        let name = String(line.text[..<colon])
        try refuseIndicators(name[...], line)
        return (name.trimmed, after.drop { $0 == " " })
      }
      index = line.text.index(after: colon)
    }
    return nil
  }

  private func refuseIndicators(_ text: Substring, _ line: Line) throws(Failure) {
    guard let first = text.first, "&*!>%@`{}[],?|".contains(first) else { return }
    throw Failure(line: line.number, reason: "\"\(first)\" begins something that is not read here")
  }

  private mutating func scalar(_ text: Substring, _ line: Line, indent: Int) throws(Failure) -> JSONValue {
    if text.first == "\"" || text.first == "'" {
      let (value, rest) = try quoted(text, line)
      guard YAMLReader.isBlank(rest.drop { $0 == " " }) else {
        throw Failure(line: line.number, reason: "something follows the quoted text")
      }
      return .string(value)
    }
    var plain = text
    if let remark = YAMLReader.remark(in: text) { plain = text[..<remark] }
    let value = String(plain).trimmed
    switch value {
    case "{}": return .object(JSONObject())
    case "[]": return .array([])
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .bool(true)
    case "false", "False", "FALSE": return .bool(false)
    case "|", "|-", "|+": return .string(literal(keepsEnd: value != "|-", indent: indent))
    default:
      try refuseIndicators(value[...], line)
      if next().map({ $0.indent > indent }) ?? false, lines[at].number > line.number {
        throw Failure(line: lines[at].number, reason: "a plain text goes on over several lines")
      }
      if value.contains(": ") || value.hasSuffix(":") {
        throw Failure(line: line.number, reason: "a name within a plain text; put it in quotes")
      }
      return Int(value) == nil || value.hasPrefix("+") ? .string(value) : .number(value)
    }
  }

  private static func remark(in text: Substring) -> Substring.Index? {
    var previous: Character = " "
    for index in text.indices {
      if text[index] == "#", previous == " " { return index }
      previous = text[index]
    }
    return nil
  }

  /// The lines below that stand further in, as they are.
  private mutating func literal(keepsEnd: Bool, indent: Int) -> String {
    var texts: [String] = []
    var inner: Int?
    while at < lines.count {
      let line = lines[at]
      if !line.text.isEmpty {
        let own = inner ?? line.indent
        guard line.indent > indent, line.indent >= own else { break }
        inner = own
      }
      texts.append(String(repeating: " ", count: max(line.indent - (inner ?? line.indent), 0)) + line.text)
      at += 1
    }
    while texts.last == "" { texts.removeLast() }
    return texts.joined(separator: "\n") + (keepsEnd && !texts.isEmpty ? "\n" : "")
  }

  /// A quoted text at the start, and what follows it.
  private func quoted(_ text: Substring, _ line: Line) throws(Failure) -> (String, Substring) {
    let mark = text.first ?? "\""
    var value = ""
    var index = text.index(after: text.startIndex)
    while index < text.endIndex {
      let character = text[index]
      let after = text.index(after: index)
      if character == mark {
        guard mark == "'", after < text.endIndex, text[after] == "'" else { return (value, text[after...]) }
        value.append("'")
        index = text.index(after: after)
      } else if character == "\\", mark == "\"" {
        guard after < text.endIndex, let plain = YAMLReader.escapes[text[after]] else {
          throw Failure(line: line.number, reason: "an escape that is not read here")
        }
        value.append(plain)
        index = text.index(after: after)
      } else {
        value.append(character)
        index = after
      }
    }
    throw Failure(line: line.number, reason: "a quoted text is not closed on its line")
  }

  private static let escapes: [Character: Character] = [
    "\"": "\"", "\\": "\\", "/": "/", "n": "\n", "t": "\t", "r": "\r", " ": " ",
  ]
}

// SPDX-License-Identifier: Apache-2.0
//
// Fields with a name and a value, as in JSON, YAML, TOML and INI files, environments, headers, URLs, command lines and
// log lines: `name=value`, `name: value`, `"name": "value"`, `\"name\":\"value\"`, `--name value`.

extension LineScan {
  /// Takes the field whose name begins at `start`, if its name announces a secret.
  ///
  /// - Returns: where to continue; nil if there is no such field.
  mutating func field(_ start: Int) -> Int? {
    let end = endOfName(start)
    let name = line[start..<end]
    guard let joint = joint(start, end) else { return nil }
    if isPair(name) {
      notePair(joint)
      return nil
    }
    let isValueOfPair = pendingValue > 0 && SecretNames.word(name) == Array("value".utf8)
    guard isValueOfPair || SecretNames.isSecret(name) else { return nil }
    // A shell's working folder (PWD) has a name that others use for passwords.
    if joint.value < line.count, line[joint.value] == UInt8(ascii: "/"), SecretNames.isFolder(name) { return nil }
    if isValueOfPair { pendingValue = 0 }
    return take(Field(name: start..<end, joint: joint), isHeader: SecretNames.isHeader(name))
  }

  /// The separator between a name and its value.
  struct Joint {
    /// The start of the value; the line's length if there is none.
    let value: Int
    /// `=`, `:` or a space.
    let sign: UInt8
    /// The name's closing quote, if the name is quoted.
    let nameIsQuoted: Bool
  }

  private struct Field {
    let name: Range<Int>
    let joint: Joint
  }

  private func joint(_ start: Int, _ end: Int) -> Joint? {
    var at = end
    while at < line.count, line[at] == UInt8(ascii: "\\") { at += 1 }
    var nameIsQuoted = false
    if at < line.count, Byte.isQuote(line[at]) {
      nameIsQuoted = true
      at += 1
      if at < line.count, line[at] == UInt8(ascii: "]") { at += 1 }
    } else if at > end {
      return nil
    }
    let behindName = at
    at = skipSpaces(at)
    guard at < line.count else { return nil }
    let sign = line[at]
    guard sign == UInt8(ascii: "=") || sign == UInt8(ascii: ":") else {
      // `--token VALUE`; a list of words in quotes is not read as pairs, but `"--token", "VALUE"` is.
      guard SecretShapes.has(line, [0x2d, 0x2d], at: start), at > behindName || nameIsQuoted else { return nil }
      if nameIsQuoted {
        guard sign == UInt8(ascii: ",") else { return nil }
        return Joint(value: skipSpaces(at + 1), sign: 0x20, nameIsQuoted: true)
      }
      return Joint(value: at, sign: 0x20, nameIsQuoted: false)
    }
    at += 1
    if sign == UInt8(ascii: ":"), at + 1 < line.count, line[at] == 0x2f, line[at + 1] == 0x2f { return nil }
    // `:=`, `==`, `=>`
    if at < line.count, line[at] == UInt8(ascii: "=") || (sign == UInt8(ascii: "=") && line[at] == UInt8(ascii: ">")) {
      at += 1
    }
    return Joint(value: skipSpaces(at), sign: sign, nameIsQuoted: nameIsQuoted)
  }

  // MARK: name and value in two fields

  private func isPair(_ name: ArraySlice<UInt8>) -> Bool {
    guard name.count == 3 || name.count == 4 else { return false }
    let word = SecretNames.word(name)
    return word == Array("name".utf8) || word == Array("key".utf8)
  }

  /// `name: DB_PASSWORD`, and `value: …` on this line or one of the next.
  private mutating func notePair(_ joint: Joint) {
    var at = joint.value
    while at < line.count, Byte.isQuote(line[at]) || line[at] == UInt8(ascii: "\\") { at += 1 }
    if SecretNames.isSecret(line[at..<endOfName(at)]) { pendingValue = 4 }
  }

  // MARK: the value

  private mutating func take(_ field: Field, isHeader: Bool) -> Int {
    let (joint, start) = (field.joint, field.joint.value)
    let isNested = joint.sign == UInt8(ascii: ":")
    guard start < line.count else {
      if isNested { open(.block(indent: LineScan.indent(line))) }
      return line.count
    }
    if isRedacted(start) { return start + 10 }
    switch line[start] {
    case UInt8(ascii: "|") where isNested && opensBlock(start), UInt8(ascii: ">") where isNested && opensBlock(start):
      open(.block(indent: LineScan.indent(line)))
      return line.count
    case UInt8(ascii: "[") where isNested:
      return list(start)
    case UInt8(ascii: "{") where isNested:
      return start
    default:
      return quoted(start) ?? plain(field, isHeader: isHeader)
    }
  }

  /// YAML's `|`, `>-`, `|2` and a comment.
  private func opensBlock(_ start: Int) -> Bool {
    let rest = line[(start + 1)...].drop { $0 == 0x2b || $0 == 0x2d || 0x30...0x39 ~= $0 }
    guard let next = rest.first(where: { !Byte.isSpace($0) }) else { return true }
    return next == UInt8(ascii: "#")
  }

  private mutating func list(_ start: Int) -> Int {
    if isRedacted(start + 2) { return start + 12 }
    if let end = line[start...].firstIndex(of: UInt8(ascii: "]")) {
      add((start + 1)..<end, .field, isQuoted: true)
      return end + 1
    }
    add((start + 1)..<line.count, .field, isQuoted: true)
    open(.block(indent: LineScan.indent(line)))
    return line.count
  }

  private mutating func quoted(_ start: Int) -> Int? {
    var at = start
    while at < line.count, line[at] == UInt8(ascii: "\\") { at += 1 }
    guard at < line.count, Byte.isQuote(line[at]) else { return nil }
    let slashes = at - start
    let quote = line[at]
    let first = at + 1
    let end = closing(quote, slashes: slashes, from: first) ?? line.count
    if !isHarmless(line[first..<end]) { add(first..<end, .field) }
    return min(end + slashes + 1, line.count)
  }

  /// The position of the closing quote for an opening quote with this number of backslashes, without its own
  /// backslashes.
  private func closing(_ quote: UInt8, slashes: Int, from start: Int) -> Int? {
    var (at, before) = (start, 0)
    while at < line.count {
      if line[at] == UInt8(ascii: "\\") {
        before += 1
      } else {
        // `\"` inside "…" is part of the value; so is `\\\"` inside \"…\".
        if line[at] == quote, slashes == 0 ? before % 2 == 0 : before <= slashes { return at - min(before, slashes) }
        before = 0
      }
      at += 1
    }
    return nil
  }

  private mutating func plain(_ field: Field, isHeader: Bool) -> Int {
    let start = field.joint.value
    var end: Int
    if field.joint.nameIsQuoted {
      // A number of JSON.
      end = start
      while end < line.count, !Byte.isSpace(line[end]), ![0x2c, 0x7d, 0x5d].contains(line[end]) { end += 1 }
      if !isHarmless(line[start..<end]) { add(start..<end, .field, isQuoted: true) }
      return end
    }
    if let quote = enclosing(field.name.lowerBound) {
      end = closing(quote.byte, slashes: quote.slashes, from: start) ?? line.count
    } else if isHeader {
      end = start
      while end < line.count, !Byte.isQuote(line[end]) { end += 1 }
    } else if field.joint.sign != 0x20, beginsLine(field.name.lowerBound) {
      end = line.count
    } else {
      end = start
      while end < line.count, !Byte.isSpace(line[end]), !Byte.isQuote(line[end]), line[end] != UInt8(ascii: "&") {
        end += 1
      }
    }
    while end > start, [0x20, 0x09, 0x0d, 0x2c, 0x7d, 0x5d, 0x29, 0x5c].contains(line[end - 1]) { end -= 1 }
    if !isHarmless(line[start..<end]) { add(start..<end, .field) }
    return max(end, start)
  }

  /// The quote right before the name: `"DB_PASSWORD=a b"`.
  private func enclosing(_ start: Int) -> (byte: UInt8, slashes: Int)? {
    guard start > 0, Byte.isQuote(line[start - 1]) else { return nil }
    var at = start - 1
    while at > 0, line[at - 1] == UInt8(ascii: "\\") { at -= 1 }
    return (line[start - 1], start - 1 - at)
  }

  /// Only indentation, a list's dash or `export` precedes the name: the value is the rest of the line.
  private func beginsLine(_ start: Int) -> Bool {
    let before = line[..<start].filter { !Byte.isSpace($0) }
    return before.isEmpty || before == [0x2d] || before == Array("export".utf8) || before == Array("-export".utf8)
  }

  /// Values without content, which stay readable.
  func isHarmless(_ value: ArraySlice<UInt8>) -> Bool {
    guard value.count <= 10 else { return false }
    let word = String(decoding: value, as: UTF8.self).lowercased()
    return [
      "", "true", "false", "null", "nil", "none", "<none>", "yes", "no", "required", "optional", "disabled", "enabled",
      "{}", "[]",
    ].contains(word)
  }
}

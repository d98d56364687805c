// SPDX-License-Identifier: Apache-2.0
//
// Elements of XML whose text is a secret: `<SecretAccessKey>…</SecretAccessKey>`, `<entry key="password">…</entry>`,
// and `<name>password</name><value>…</value>`. Attributes are handled like fields (LineScan+Fields).

extension LineScan {
  /// Of a tag, its attributes included.
  private static let tagLimit = 4096

  /// Takes the text of the element whose tag begins at `start`, if its name announces a secret.
  mutating func element(_ start: Int) {
    let first = start + 1
    guard first < line.count, Byte.isLetterOrDigit(line[first]) || line[first] == UInt8(ascii: "_") else { return }
    var end = first
    while end < line.count, Byte.isName(line[end]) || line[end] == UInt8(ascii: ":") { end += 1 }
    let local = (line[first..<end].lastIndex(of: UInt8(ascii: ":")).map { $0 + 1 } ?? first)..<end
    guard let close = endOfTag(end), line[close - 1] != UInt8(ascii: "/") else { return }
    let text = close + 1
    let stop = endOfText(text)
    let word = SecretNames.word(line[local])
    if LineScan.pairNames.contains(word) {
      if SecretNames.isSecret(line[text..<stop]) { pendingValue = 4 }
      return
    }
    let isValueOfPair = pendingValue > 0 && LineScan.pairValues.contains(word)
    guard isValueOfPair || SecretNames.isSecret(line[local]) || attributeAnnounces(end..<close) else { return }
    if SecretShapes.has(line, [UInt8(ascii: "<"), UInt8(ascii: "/")], at: stop) {
      if isValueOfPair { pendingValue = 0 }
      if !isHarmless(line[text..<stop]) { add(text..<stop, .field) }
    } else if stop == line.count, LineScan.indent(line) == start {
      // Continues below. In running text, `<token>` is a placeholder.
      add(text..<stop, .field)
      open(.element)
    }
  }

  private static let pairNames: [[UInt8]] = ["name", "key"].map { Array($0.utf8) }
  private static let pairValues: [[UInt8]] = ["value", "string", "data"].map { Array($0.utf8) }
  static let textMark = Array("<![CDATA[".utf8)
  private static let textEnd = Array("]]>".utf8)

  /// The position of the tag's `>`.
  private func endOfTag(_ start: Int) -> Int? {
    var quote: UInt8?
    for at in start..<min(line.count, start + LineScan.tagLimit) {
      let byte = line[at]
      if let open = quote {
        if byte == open { quote = nil }
      } else if byte == 0x22 || byte == 0x27 {
        quote = byte
      } else if byte == UInt8(ascii: ">") {
        return at
      } else if byte == UInt8(ascii: "<") {
        return nil
      }
    }
    return nil
  }

  /// Where the next tag begins; a text in a CDATA mark may have any character.
  private func endOfText(_ start: Int) -> Int {
    var at = start
    if SecretShapes.has(line, LineScan.textMark, at: start) {
      let limit = min(line.count, start + LineScan.tagLimit)
      while at < limit, !SecretShapes.has(line, LineScan.textEnd, at: at) { at += 1 }
    }
    while at < line.count, line[at] != UInt8(ascii: "<") { at += 1 }
    return at
  }

  /// `key="password"` among a tag's attributes.
  private func attributeAnnounces(_ range: Range<Int>) -> Bool {
    var at = range.lowerBound
    while at < range.upperBound {
      guard Byte.isName(line[at]) else {
        at += 1
        continue
      }
      let end = min(endOfName(at), range.upperBound)
      let isPair = LineScan.pairNames.contains(SecretNames.word(line[at..<end]))
      at = end
      guard isPair, SecretShapes.has(line, [UInt8(ascii: "=")], at: end), end + 1 < range.upperBound,
        Byte.isQuote(line[end + 1])
      else { continue }
      if SecretNames.isSecret(line[(end + 2)..<max(endOfName(end + 2), end + 2)]) { return true }
    }
    return false
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// Replaces what looks like a secret in text, for what leaves the node. It goes by lines and keeps one of them at most:
//
//   pieces of text ─▶ lines, cut at lineLimit ─▶ LineScan (SecretNames, SecretShapes) ─▶ text with [redacted KIND]
//
// A secret that nothing announces and that has no form of its own is not found; docs/decisions/0036 says what that means.

/// Text in, text without secrets out.
package struct Redactor: Sendable {
  /// Bytes of a line that are kept. The rest of a longer one is left out and counted in its place: half a secret would
  /// not be known for one.
  package static let lineLimit = 64 << 10

  /// How many replacements were made, by kind.
  package private(set) var found: [SecretKind: Int] = [:]
  /// Lines that were too long.
  package private(set) var cutLines = 0

  private var line: [UInt8] = []
  /// Bytes of the current line that are not kept.
  private var surplus = 0
  private var state = State.plain
  private var pendingValue = 0

  private enum State {
    case plain
    /// Lines of more indentation belong to a secret; whether its mark has been written.
    case block(indent: Int, isTold: Bool)
    /// A PEM block; how many lines it may still have.
    case privateKey(left: Int)
  }

  package init() {}

  /// Takes the next piece; appends to `output` what is complete.
  package mutating func take(_ bytes: some Collection<UInt8>, into output: inout [UInt8]) {
    var rest = bytes[...]
    while let end = rest.firstIndex(of: 0x0a) {
      keep(rest[..<end])
      finishLine(into: &output)
      output.append(0x0a)
      rest = rest[rest.index(after: end)...]
    }
    keep(rest)
  }

  /// The end of the text: what is left of it.
  package mutating func finish(into output: inout [UInt8]) {
    if !line.isEmpty || surplus > 0 { finishLine(into: &output) }
    state = .plain
    pendingValue = 0
  }

  /// A whole text at once.
  package static func redacted(_ text: String) -> String {
    var redactor = Redactor()
    var output: [UInt8] = []
    redactor.take(Array(text.utf8), into: &output)
    redactor.finish(into: &output)
    return String(decoding: output, as: UTF8.self)
  }

  private mutating func keep(_ piece: some Collection<UInt8>) {
    let room = Redactor.lineLimit - line.count
    guard piece.count > room else {
      line += piece
      return
    }
    line += piece.prefix(room)
    surplus += piece.count - room
  }

  private mutating func finishLine(into output: inout [UInt8]) {
    defer {
      line.removeAll(keepingCapacity: true)
      surplus = 0
    }
    if surplus > 0 { cutLine() }
    defer {
      if surplus > 0 { output += Array(" [\(surplus) bytes of this line left out]".utf8) }
    }
    if isInsideSecret(&output) { return }
    var scan = LineScan(line: line, pendingValue: pendingValue)
    scan.run()
    pendingValue = max(scan.pendingValue - 1, 0)
    var at = 0
    for span in scan.spans {
      output += line[at..<span.range.lowerBound]
      let mark = "[redacted \(span.kind.rawValue)]"
      output += Array((span.isQuoted ? "\"\(mark)\"" : mark).utf8)
      at = span.range.upperBound
      found[span.kind, default: 0] += 1
    }
    output += line[at...]
    switch scan.opening {
    case .block(let indent): state = .block(indent: indent, isTold: false)
    // An RSA key of 16,384 bits has 200 lines.
    case .privateKey: state = .privateKey(left: 256)
    case nil: break
    }
  }

  /// Back to the end of the last word that is whole.
  private mutating func cutLine() {
    cutLines += 1
    let separators: Set<UInt8> = [
      0x20, 0x09, UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "{"), UInt8(ascii: "["),
    ]
    let whole = line.lastIndex(where: separators.contains).map { $0 + 1 } ?? 0
    surplus += line.count - whole
    line.removeLast(line.count - whole)
  }

  /// Whether the line belongs to a secret that an earlier one began; if so, it is done with.
  private mutating func isInsideSecret(_ output: inout [UInt8]) -> Bool {
    switch state {
    case .plain:
      return false
    case .privateKey(let left):
      let isEnd = SecretShapes.holds(line[...], Array("-----END".utf8))
      state = isEnd || left <= 1 ? .plain : .privateKey(left: left - 1)
      return true
    case .block(let indent, let isTold):
      let own = LineScan.indent(line)
      let isBlank = own == line.count || line.allSatisfy(Byte.isSpace)
      let isItem = own >= indent && SecretShapes.has(line, [0x2d, 0x20], at: own)
      guard isBlank || own > indent || isItem else {
        state = .plain
        return false
      }
      if !isBlank, !isTold {
        output += line.prefix(own) + Array("[redacted \(SecretKind.block.rawValue)]".utf8)
        found[.block, default: 0] += 1
        state = .block(indent: indent, isTold: true)
      }
      return true
    }
  }
}

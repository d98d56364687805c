// SPDX-License-Identifier: Apache-2.0
//
// Replaces likely secrets in text that leaves the node. It works by lines and keeps at most one of them:
//
//   pieces of text ─▶ lines, cut at lineLimit ─┬─▶ TextScan: LineScan (SecretNames, SecretShapes) ─┬─▶ [redacted KIND]
//                                              └─▶ UnescapedLine, layer by layer ─▶ TextScan ───────┘
//
// Terminal colours are removed: they would separate a name from its value. A secret without a secret name or form is
// not found; see docs/decisions/0036.

/// Text in, text without secrets out.
package struct Redactor: Sendable {
  /// The maximum length of a line. The rest of a longer one is dropped and counted: a truncated secret would not be
  /// recognized.
  package static let lineLimit = 64 << 10

  /// How many replacements were made, by kind.
  package private(set) var found: [SecretKind: Int] = [:]
  /// Lines that were too long.
  package private(set) var cutLines = 0

  private var line: [UInt8] = []
  /// Bytes of the current line that are not kept.
  private var surplus = 0
  private var scan = TextScan()

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
    scan = TextScan()
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
    line = UnescapedLine.withoutTerminalSequences(line)
    let (plain, below) = (scan.spans(in: line), Redactor.spansBelowEscapes(line))
    guard !plain.isEmpty || !below.isEmpty else {
      output += line
      return
    }
    var at = 0
    for span in Redactor.merged(plain + below) {
      output += line[at..<span.range.lowerBound]
      at = span.range.upperBound
      guard !span.isSilent else { continue }
      let mark = "[redacted \(span.kind.rawValue)]"
      output += Array((span.isQuoted ? "\"\(mark)\"" : mark).utf8)
      found[span.kind, default: 0] += 1
    }
    output += line[at...]
  }

  /// Secrets in the unescaped line, as positions of the original line. Escaped line feeds separate lines.
  private static func spansBelowEscapes(_ line: [UInt8]) -> [LineScan.Span] {
    var found: [LineScan.Span] = []
    var layers: [UnescapedLine] = []
    while layers.count < UnescapedLine.layers, let next = UnescapedLine(layers.last?.bytes ?? line) {
      layers.append(next)
      var scan = TextScan()
      var start = 0
      for part in next.bytes.split(separator: 0x0a, omittingEmptySubsequences: false) {
        for span in scan.spans(in: Array(part)) {
          var range = span.range.lowerBound + start..<span.range.upperBound + start
          for layer in layers.reversed() { range = layer.origin(of: range) }
          found.append(LineScan.Span(range: range, kind: span.kind, isQuoted: span.isQuoted, isSilent: span.isSilent))
        }
        start += part.count + 1
      }
    }
    return found
  }

  /// Ordered and disjoint: overlapping ones are merged.
  private static func merged(_ spans: [LineScan.Span]) -> [LineScan.Span] {
    var merged: [LineScan.Span] = []
    let isBefore = { (one: LineScan.Span, other: LineScan.Span) in
      (one.range.lowerBound, -one.range.upperBound) < (other.range.lowerBound, -other.range.upperBound)
    }
    for span in spans.sorted(by: isBefore) {
      guard let last = merged.last, span.range.lowerBound < last.range.upperBound else {
        merged.append(span)
        continue
      }
      if span.range.upperBound > last.range.upperBound {
        merged[merged.count - 1].range = last.range.lowerBound..<span.range.upperBound
      }
      // A replacement mark instead of nothing.
      if !span.isSilent { merged[merged.count - 1].isSilent = false }
    }
    return merged
  }

  /// Back to the end of the last complete word.
  private mutating func cutLine() {
    cutLines += 1
    let separators: Set<UInt8> = [
      0x20, 0x09, UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "{"), UInt8(ascii: "["),
    ]
    let whole = line.lastIndex(where: separators.contains).map { $0 + 1 } ?? 0
    surplus += line.count - whole
    line.removeLast(line.count - whole)
  }
}

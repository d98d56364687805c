// SPDX-License-Identifier: Apache-2.0

/// Finds the secrets of a text, line by line: single-line ones (LineScan) and multi-line ones.
struct TextScan {
  private enum State: Hashable {
    case plain
    /// Lines of more indentation belong to a secret; whether its mark has been written.
    case block(indent: Int, isTold: Bool)
    /// A PEM block; how many lines it may still have.
    case privateKey(left: Int)
    /// The text of an XML element; how many lines it may still have, and whether its mark has been written.
    case element(left: Int, isTold: Bool)
  }

  private var state = State.plain
  private var pendingValue = 0

  /// The stretches of a line to replace, in their order.
  mutating func spans(in line: [UInt8]) -> [LineScan.Span] {
    if let spans = spansInsideSecret(line) { return spans }
    var scan = LineScan(line: line, pendingValue: pendingValue)
    scan.run()
    pendingValue = max(scan.pendingValue - 1, 0)
    switch scan.opening {
    case .block(let indent): state = .block(indent: indent, isTold: false)
    // An RSA key of 16,384 bits has 200 lines.
    case .privateKey: state = .privateKey(left: 256)
    case .element: state = .element(left: 16, isTold: false)
    case nil: break
    }
    return scan.spans
  }

  /// The part of a line that continues an earlier secret; nil for an independent line.
  private mutating func spansInsideSecret(_ line: [UInt8]) -> [LineScan.Span]? {
    switch state {
    case .plain:
      return nil
    case .privateKey(let left):
      let isEnd = SecretShapes.holds(line[...], Array("-----END".utf8))
      state = isEnd || left <= 1 ? .plain : .privateKey(left: left - 1)
      return line.isEmpty ? [] : [LineScan.Span(range: 0..<line.count, kind: .privateKey, isSilent: true)]
    case .block(let indent, let isTold):
      let own = LineScan.indent(line)
      let isBlank = own == line.count || line.allSatisfy(Byte.isSpace)
      let isItem = own >= indent && SecretShapes.has(line, [0x2d, 0x20], at: own)
      guard isBlank || own > indent || isItem else {
        state = .plain
        return nil
      }
      if isBlank { return line.isEmpty ? [] : [LineScan.Span(range: 0..<line.count, kind: .block, isSilent: true)] }
      state = .block(indent: indent, isTold: true)
      let start = isTold ? 0 : own
      return [LineScan.Span(range: start..<line.count, kind: .block, isSilent: isTold)]
    case .element(let left, let isTold):
      let own = LineScan.indent(line)
      guard own < line.count else { return [] }
      let mark = SecretShapes.has(line, LineScan.textMark, at: own) ? LineScan.textMark.count : 0
      // A child, or the end: the rest is independent.
      let end = line[(own + mark)...].firstIndex(of: UInt8(ascii: "<")) ?? line.count
      state = end < line.count || left <= 1 ? .plain : .element(left: left - 1, isTold: true)
      guard end > own else { return nil }
      return [LineScan.Span(range: own..<end, kind: .block, isSilent: isTold)]
    }
  }
}

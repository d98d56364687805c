// SPDX-License-Identifier: Apache-2.0

/// What one line of Prometheus's text format says.
enum MetricLine {
  /// Empty, or a comment.
  case nothing
  case malformed
  /// A sample of an unrequested series.
  case other
  case sample(MetricTextReader.Sample)

  /// - Parameters:
  ///   - line: without its line feed.
  ///   - names: the requested series.
  static func read(_ line: Span<UInt8>, names: [[UInt8]], maximumLabels: Int) -> MetricLine {
    var at = 0
    skipSpace(line, &at)
    guard at < line.count, line[at] != UInt8(ascii: "#") else { return .nothing }
    let nameStart = at
    while at < line.count, isName(line[at], first: at == nameStart, colons: true) { at += 1 }
    guard at > nameStart else { return .malformed }
    let name = names.firstIndex { isSame($0, line, nameStart..<at) }
    skipSpace(line, &at)
    var labels: [MetricTextReader.Label] = []
    if at < line.count, line[at] == UInt8(ascii: "{") {
      at += 1
      guard readLabels(line, &at, keep: name != nil, maximum: maximumLabels, &labels) else { return .malformed }
      skipSpace(line, &at)
    } else if at < line.count, !isSpace(line[at - 1]) {
      // `name+1`: something other than a space or a brace ended the name.
      return .malformed
    }
    guard let value = readValue(line, &at), isTailAllowed(line, at) else { return .malformed }
    guard let name else { return .other }
    return .sample(MetricTextReader.Sample(name: name, labels: labels, value: value))
  }

  /// `name="value",…}` after the opening brace; a comma may follow the last one.
  private static func readLabels(
    _ line: Span<UInt8>, _ at: inout Int, keep: Bool, maximum: Int, _ labels: inout [MetricTextReader.Label]
  ) -> Bool {
    var count = 0
    while true {
      skipSpace(line, &at)
      guard at < line.count else { return false }
      if line[at] == UInt8(ascii: "}") {
        at += 1
        return true
      }
      let start = at
      while at < line.count, isName(line[at], first: at == start, colons: false) { at += 1 }
      let name = start..<at
      skipSpace(line, &at)
      guard !name.isEmpty, take(UInt8(ascii: "="), line, &at) else { return false }
      skipSpace(line, &at)
      guard count < maximum, take(UInt8(ascii: "\""), line, &at), let value = readQuoted(line, &at, keep: keep) else {
        return false
      }
      count += 1
      if keep { labels.append(MetricTextReader.Label(name: text(line, name), value: value)) }
      skipSpace(line, &at)
      guard at < line.count else { return false }
      if !take(UInt8(ascii: ","), line, &at), line[at] != UInt8(ascii: "}") { return false }
    }
  }

  /// A label's value after its opening quote, up to the closing one; empty if it is not kept.
  private static func readQuoted(_ line: Span<UInt8>, _ at: inout Int, keep: Bool) -> String? {
    let start = at
    var unescaped: [UInt8]?
    while at < line.count {
      let byte = line[at]
      at += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard keep else { return "" }
        return unescaped.map { String(decoding: $0, as: UTF8.self) } ?? text(line, start..<at - 1)
      case UInt8(ascii: "\\"):
        guard at < line.count else { return nil }
        let escaped: UInt8
        switch line[at] {
        case UInt8(ascii: "n"): escaped = UInt8(ascii: "\n")
        case UInt8(ascii: "\\"), UInt8(ascii: "\""): escaped = line[at]
        default: return nil
        }
        if keep {
          if unescaped == nil { unescaped = bytes(line, start..<at - 1) }
          unescaped?.append(escaped)
        }
        at += 1
      default: unescaped?.append(byte)
      }
    }
    return nil
  }

  private static func readValue(_ line: Span<UInt8>, _ at: inout Int) -> Double? {
    let start = at
    while at < line.count, !isSpace(line[at]) { at += 1 }
    guard (1...64).contains(at - start) else { return nil }
    // Most values are short whole numbers, which need no conversion of text.
    if at - start <= 15, let whole = wholeNumber(line, start..<at) { return Double(whole) }
    return Double(text(line, start..<at))
  }

  private static func wholeNumber(_ line: Span<UInt8>, _ range: Range<Int>) -> Int? {
    var value = 0
    for at in range {
      guard 0x30...0x39 ~= line[at] else { return nil }
      value = value * 10 + Int(line[at] - 0x30)
    }
    return value
  }

  /// Nothing, a time stamp, or what OpenMetrics writes behind a `#`.
  private static func isTailAllowed(_ line: Span<UInt8>, _ start: Int) -> Bool {
    var at = start
    skipSpace(line, &at)
    let stamp = at
    while at < line.count, !isSpace(line[at]), line[at] != UInt8(ascii: "#") {
      guard 0x30...0x39 ~= line[at] || line[at] == UInt8(ascii: ".") || at == stamp && line[at] == UInt8(ascii: "-")
      else { return false }
      at += 1
    }
    skipSpace(line, &at)
    return at == line.count || line[at] == UInt8(ascii: "#")
  }

  // MARK: bytes

  private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0d }

  private static func skipSpace(_ line: Span<UInt8>, _ at: inout Int) {
    while at < line.count, isSpace(line[at]) { at += 1 }
  }

  private static func isName(_ byte: UInt8, first: Bool, colons: Bool) -> Bool {
    switch byte {
    case 0x61...0x7a, 0x41...0x5a, UInt8(ascii: "_"): true
    case 0x30...0x39: !first
    case UInt8(ascii: ":"): colons
    default: false
    }
  }

  private static func take(_ byte: UInt8, _ line: Span<UInt8>, _ at: inout Int) -> Bool {
    guard at < line.count, line[at] == byte else { return false }
    at += 1
    return true
  }

  private static func isSame(_ name: [UInt8], _ line: Span<UInt8>, _ range: Range<Int>) -> Bool {
    guard name.count == range.count else { return false }
    for index in name.indices where name[index] != line[range.lowerBound + index] { return false }
    return true
  }

  private static func bytes(_ line: Span<UInt8>, _ range: Range<Int>) -> [UInt8] { range.map { line[$0] } }

  private static func text(_ line: Span<UInt8>, _ range: Range<Int>) -> String {
    String(unsafeUninitializedCapacity: range.count) { buffer in
      for (index, at) in range.enumerated() { buffer[index] = line[at] }
      return range.count
    }
  }
}

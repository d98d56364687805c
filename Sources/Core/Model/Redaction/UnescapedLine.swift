// SPDX-License-Identifier: Apache-2.0
//
// A secret can be escaped in a line: `password%3Dhunter2`, `\u0022password\u0022:\u0022hunter2`,
// `&lt;password&gt;hunter2`, `password\x3dhunter2`. This removes one layer of such escapes and maps each byte of the
// result to its position, so that secrets found in the result are replaced in the original line.

/// A line after unescaping.
struct UnescapedLine {
  let bytes: [UInt8]
  /// Where each byte of `bytes` begins in the line, and where the line ends.
  private let starts: [Int32]

  /// The maximum number of escape layers: `%253D` has two, JSON in JSON in a URL three.
  static let layers = 4

  /// Nil if the line has nothing to unescape.
  init?(_ line: [UInt8]) {
    guard let first = line.firstIndex(where: EscapeReader.begins) else { return nil }
    var reader = EscapeReader(line: line, first: first)
    reader.run()
    guard reader.isChanged else { return nil }
    reader.dropTerminalSequences()
    (bytes, starts) = (reader.bytes, reader.starts)
  }

  /// The same stretch in the line.
  func origin(of range: Range<Int>) -> Range<Int> { Int(starts[range.lowerBound])..<Int(starts[range.upperBound]) }

  /// A line without terminal sequences: `ESC [ 31 m`, titles, and other sequences of ISO 6429.
  static func withoutTerminalSequences(_ line: [UInt8]) -> [UInt8] {
    guard line.contains(EscapeReader.escape) else { return line }
    var plain: [UInt8] = []
    plain.reserveCapacity(line.count)
    var at = 0
    while at < line.count {
      if line[at] == EscapeReader.escape {
        at = EscapeReader.endOfSequence(line, at)
      } else {
        plain.append(line[at])
        at += 1
      }
    }
    return plain
  }
}

/// Unescapes from left to right, each byte once.
private struct EscapeReader {
  static let escape: UInt8 = 0x1b

  private let line: [UInt8]
  private let first: Int
  private var at = 0
  private(set) var bytes: [UInt8] = []
  private(set) var starts: [Int32] = []
  private(set) var isChanged = false

  /// - Parameter first: the first byte that may begin an escape.
  init(line: [UInt8], first: Int) {
    self.line = line
    self.first = first
    bytes.reserveCapacity(line.count)
    starts.reserveCapacity(line.count + 1)
  }

  static func begins(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "%"), UInt8(ascii: "\\"), UInt8(ascii: "&"), UInt8(ascii: "#"), UInt8(ascii: "^"): true
    default: false
    }
  }

  mutating func run() {
    keep(until: first)
    while at < line.count {
      if let found = escape() {
        isChanged = true
        bytes.append(found.byte)
        starts.append(Int32(at))
        at += found.length
      } else {
        keep(until: at + 1)
      }
      keep(until: line[at...].firstIndex(where: EscapeReader.begins) ?? line.count)
    }
    starts.append(Int32(line.count))
  }

  /// Other text stays unchanged.
  private mutating func keep(until end: Int) {
    guard end > at else { return }
    bytes.append(contentsOf: line[at..<end])
    for place in at..<end { starts.append(Int32(place)) }
    at = end
  }

  private func escape() -> (byte: UInt8, length: Int)? {
    switch line[at] {
    case UInt8(ascii: "%"): hexadecimal(from: at + 1, digits: 2).map { ($0, 3) }
    case UInt8(ascii: "\\"): backslash()
    case UInt8(ascii: "&"): entity()
    case UInt8(ascii: "#"): octal(from: at + 1).flatMap { $0 < 0x20 ? ($0, 4) : nil }  // rsyslog: `#033`
    case UInt8(ascii: "^"): has("^[[") ? (EscapeReader.escape, 2) : nil  // `cat -v`
    default: nil
    }
  }

  /// A terminal sequence in escaped form: `\u001b[31m`.
  mutating func dropTerminalSequences() {
    guard bytes.contains(EscapeReader.escape) else { return }
    var (kept, origins): ([UInt8], [Int32]) = ([], [])
    var place = 0
    while place < bytes.count {
      if bytes[place] == EscapeReader.escape {
        place = EscapeReader.endOfSequence(bytes, place)
      } else {
        kept.append(bytes[place])
        origins.append(starts[place])
        place += 1
      }
    }
    origins.append(Int32(line.count))
    (bytes, starts) = (kept, origins)
  }

  /// `\n`, `\"`, `\x3d`, `\u003d`, `\U0000003d`, `\075`.
  private func backslash() -> (byte: UInt8, length: Int)? {
    guard at + 1 < line.count else { return nil }
    switch line[at + 1] {
    case UInt8(ascii: "n"), UInt8(ascii: "r"): return (0x0a, 2)
    case UInt8(ascii: "t"): return (0x09, 2)
    case UInt8(ascii: "e"): return has("\\e[") ? (EscapeReader.escape, 2) : nil
    case UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "\""), UInt8(ascii: "'"): return (line[at + 1], 2)
    case UInt8(ascii: "x"): return hexadecimal(from: at + 2, digits: 2).map { ($0, 4) }
    case UInt8(ascii: "u"): return hexadecimal(from: at + 2, digits: 4).map { ($0, 6) }
    case UInt8(ascii: "U"): return hexadecimal(from: at + 2, digits: 8).map { ($0, 10) }
    case UInt8(ascii: "0")...UInt8(ascii: "3"): return octal(from: at + 1).map { ($0, 4) }
    default: return nil
    }
  }

  private static let names: [(text: String, byte: UInt8)] = [
    ("&amp;", UInt8(ascii: "&")), ("&lt;", UInt8(ascii: "<")), ("&gt;", UInt8(ascii: ">")),
    ("&quot;", UInt8(ascii: "\"")), ("&apos;", UInt8(ascii: "'")),
  ]

  /// `&lt;`, `&#61;`, `&#x3d;`.
  private func entity() -> (byte: UInt8, length: Int)? {
    guard at + 3 < line.count else { return nil }
    guard line[at + 1] == UInt8(ascii: "#") else {
      return EscapeReader.names.first { has($0.text) }.map { ($0.byte, $0.text.utf8.count) }
    }
    let isHexadecimal = line[at + 2] | 0x20 == UInt8(ascii: "x")
    let first = at + (isHexadecimal ? 3 : 2)
    let digits = line[first...].prefix(8).prefix { EscapeReader.digit($0).map { isHexadecimal || $0 < 10 } ?? false }
    guard !digits.isEmpty, digits.endIndex < line.count, line[digits.endIndex] == UInt8(ascii: ";") else { return nil }
    let value = digits.reduce(0) { $0 * (isHexadecimal ? 16 : 10) + Int(EscapeReader.digit($1) ?? 0) }
    return (EscapeReader.byte(value), digits.endIndex + 1 - at)
  }

  private func has(_ text: String) -> Bool {
    let text = text.utf8
    return at + text.count <= line.count && line[at..<at + text.count].elementsEqual(text)
  }

  private func hexadecimal(from start: Int, digits: Int) -> UInt8? {
    guard start + digits <= line.count else { return nil }
    var value = 0
    for place in start..<start + digits {
      guard let digit = EscapeReader.digit(line[place]) else { return nil }
      value = value << 4 | Int(digit)
    }
    return EscapeReader.byte(value)
  }

  private func octal(from start: Int) -> UInt8? {
    guard start + 3 <= line.count, line[start] <= UInt8(ascii: "3") else { return nil }
    var value = 0
    for place in start..<start + 3 {
      guard 0x30...0x37 ~= line[place] else { return nil }
      value = value << 3 | Int(line[place] - 0x30)
    }
    return UInt8(value)
  }

  /// Names, separators and keys are ASCII: any other character only must not equal one of them.
  private static func byte(_ value: Int) -> UInt8 { 0..<0x80 ~= value ? UInt8(value) : 0x80 }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }

  /// The position after the terminal sequence whose ESC is at `start`.
  static func endOfSequence(_ line: [UInt8], _ start: Int) -> Int {
    var at = start + 1
    guard at < line.count else { return at }
    switch line[at] {
    case UInt8(ascii: "["):
      at += 1
      while at < line.count, 0x20...0x3f ~= line[at] { at += 1 }
      return min(at + 1, line.count)
    case UInt8(ascii: "]"):
      while at < line.count, line[at] != 0x07, line[at] != escape { at += 1 }
      // BEL, or ESC and a backslash.
      return at < line.count ? min(at + (line[at] == escape ? 2 : 1), line.count) : at
    default:
      return at + 1
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

/// Finds the secrets of one line: values of fields with secret names (LineScan+Fields), and words with a secret's form.
/// One pass; each byte is examined a bounded number of times.
struct LineScan {
  /// A stretch to replace.
  struct Span: Hashable {
    var range: Range<Int>
    let kind: SecretKind
    /// The replacement is for an unquoted JSON value.
    var isQuoted = false
    /// No replacement: an earlier line has the mark.
    var isSilent = false
  }

  /// State that continues in the following lines.
  enum Opening: Hashable {
    /// Lines with more indentation than this belong to a secret.
    case block(indent: Int)
    /// Inside a private key.
    case privateKey
    /// Inside the text of an XML element.
    case element
  }

  let line: [UInt8]
  private(set) var spans: [Span] = []
  private(set) var opening: Opening?
  /// Lines for which a field `value` counts as a secret because of the field `name` before it. Counted by the caller.
  var pendingValue: Int
  /// Whether to decode base64; not inside decoded base64.
  private let isDecoded: Bool
  /// A netrc line: `machine HOST login USER password PASSWORD`.
  private var hasLogin = false

  init(line: [UInt8], pendingValue: Int = 0, isDecoded: Bool = false) {
    self.line = line
    self.isDecoded = isDecoded
    self.pendingValue = pendingValue
  }

  mutating func add(_ range: Range<Int>, _ kind: SecretKind, isQuoted: Bool = false) {
    guard !range.isEmpty else { return }
    spans.append(Span(range: range, kind: kind, isQuoted: isQuoted))
  }

  mutating func open(_ new: Opening) { opening = new }

  /// Indentation of the line, a list's dashes counted in.
  static func indent(_ line: [UInt8]) -> Int { line.prefix { $0 == 0x20 || $0 == 0x09 }.count }

  mutating func run() {
    var at = 0
    // Where the last run of base64 that was weighed ends.
    var weighed = 0
    while at < line.count {
      let byte = line[at]
      if byte == UInt8(ascii: ":"), SecretShapes.has(line, LineScan.schemeEnd, at: at) {
        at = userInformation(at + 3)
        continue
      }
      if byte == UInt8(ascii: "<") { element(at) }
      guard Byte.isBase64(byte) || byte == UInt8(ascii: ".") else {
        at += 1
        continue
      }
      if at >= weighed, Byte.isBase64(byte) {
        weighed = endOfBase64(at)
        let run = line[at..<weighed]
        if SecretShapes.isKeyMaterial(run) || SecretShapes.isKeyBesideMark(run) || hidesSecret(run) {
          // A field's name never has this form; its padding goes with it.
          let end = line[weighed...].prefix { $0 == UInt8(ascii: "=") }.endIndex
          // A web token is one run after the other, with dots between.
          let whole = SecretShapes.find(line, at: at).map { max($0.end, end) } ?? end
          add(at..<whole, SecretShapes.find(line, at: at)?.kind ?? .keyMaterial)
          at = whole
          continue
        }
      }
      if Byte.isName(byte), at == 0 || !Byte.isName(line[at - 1]) {
        if let end = privateKey(at) ?? field(at) ?? loginWord(at) {
          at = end
          continue
        }
      }
      guard Byte.isLetterOrDigit(byte) else {
        at += 1
        continue
      }
      if let found = SecretShapes.find(line, at: at) {
        add(at..<found.end, found.kind)
        at = found.end
        continue
      }
      while at < line.count, Byte.isLetterOrDigit(line[at]) { at += 1 }
    }
  }

  /// Whether a run of base64, without its padding, is a text with a secret in it.
  private func hidesSecret(_ run: ArraySlice<UInt8>) -> Bool {
    guard !isDecoded, run.count >= SecretShapes.leastBase64, let text = SecretShapes.textOfBase64(run) else {
      return false
    }
    return text.split(separator: 0x0a).contains { part in
      var scan = LineScan(line: Array(part), isDecoded: true)
      scan.run()
      return !scan.spans.isEmpty || scan.opening != nil
    }
  }

  private static let schemeEnd = Array("://".utf8)

  func endOfName(_ start: Int) -> Int {
    var end = start
    while end < line.count, Byte.isName(line[end]) { end += 1 }
    return end
  }

  func endOfBase64(_ start: Int) -> Int {
    var end = start
    while end < line.count, Byte.isBase64(line[end]) { end += 1 }
    return end
  }

  func endOfWord(_ start: Int) -> Int {
    var end = start
    while end < line.count, !Byte.isSpace(line[end]), !Byte.isQuote(line[end]) { end += 1 }
    return end
  }

  func skipSpaces(_ start: Int) -> Int {
    var at = start
    while at < line.count, Byte.isSpace(line[at]) { at += 1 }
    return at
  }

  /// The replacement of an earlier pass.
  func isRedacted(_ start: Int) -> Bool { SecretShapes.has(line, Array("[redacted ".utf8), at: start) }

  /// `user:password@` behind `://`.
  private mutating func userInformation(_ start: Int) -> Int {
    var (at, sign) = (start, -1)
    while at < line.count, !Byte.isSpace(line[at]), !Byte.isQuote(line[at]) {
      switch line[at] {
      case UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: "#"), UInt8(ascii: "<"), UInt8(ascii: ">"): break
      case UInt8(ascii: "@"):
        sign = at
        fallthrough
      default:
        at += 1
        continue
      }
      break
    }
    guard sign > start else { return start }
    add(start..<sign, .login)
    return sign
  }

  /// A PEM block with a private key, on this line as far as it goes.
  private mutating func privateKey(_ start: Int) -> Int? {
    guard line[start] == UInt8(ascii: "-"), SecretShapes.has(line, Array("-----BEGIN".utf8), at: start) else {
      return nil
    }
    guard SecretShapes.holds(line[start...].prefix(64), Array("PRIVATE KEY".utf8)) else { return nil }
    let mark = Array("-----END".utf8)
    var at = start + 10
    while at < line.count {
      if line[at] == mark[0], SecretShapes.has(line, mark, at: at) {
        var end = at + mark.count
        // The label, then five dashes.
        while end < line.count, line[end] != UInt8(ascii: "-") { end += 1 }
        while end < line.count, line[end] == UInt8(ascii: "-") { end += 1 }
        add(start..<end, .privateKey)
        return end
      }
      at += 1
    }
    add(start..<line.count, .privateKey)
    open(.privateKey)
    return line.count
  }

  /// `Bearer TOKEN`, `Basic CREDENTIAL`, `-u user:password`, and a netrc's password.
  private mutating func loginWord(_ start: Int) -> Int? {
    // The first bytes of the words below: most words need no further check.
    switch line[start] | 0x20 {
    case UInt8(ascii: "b"), UInt8(ascii: "n"), UInt8(ascii: "-"), UInt8(ascii: "l"), UInt8(ascii: "m"),
      UInt8(ascii: "p"):
      break
    default: return nil
    }
    let end = endOfName(start)
    let length = end - start
    guard (2...9).contains(length), end < line.count, Byte.isSpace(line[end]) else { return nil }
    let word = String(decoding: line[start..<end], as: UTF8.self).lowercased()
    let value = skipSpaces(end)
    guard !isRedacted(value) else { return nil }
    switch word {
    case "bearer", "negotiate":
      let stop = endOfWord(value)
      // "bearer certificates": words have small letters and marks alone.
      guard stop - value >= 8, !line[value..<stop].allSatisfy({ 0x61...0x7a ~= $0 || [0x2c, 0x2e, 0x3a].contains($0) })
      else { return nil }
      add(value..<stop, .login)
      return stop
    case "basic":
      let stop = endOfBase64(value)
      guard stop - value >= 8, SecretShapes.isBasicCredential(line[value..<stop]) else { return nil }
      add(value..<line[stop...].prefix { $0 == UInt8(ascii: "=") }.endIndex, .login)
      return stop
    case "-u", "--user":
      let begin = value < line.count && Byte.isQuote(line[value]) ? value + 1 : value
      let stop = endOfWord(begin)
      guard line[begin..<stop].contains(UInt8(ascii: ":")) else { return nil }
      add(begin..<stop, .login)
      return stop
    case "login", "machine":
      hasLogin = true
      return nil
    case "password" where hasLogin:
      let stop = endOfWord(value)
      add(value..<stop, .field)
      return stop
    default:
      return nil
    }
  }
}

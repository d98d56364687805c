// SPDX-License-Identifier: Apache-2.0

/// Secrets recognized by their form, whatever precedes them.
enum SecretShapes {
  /// A word with this prefix, followed by at least this number of letters, digits, `_`, `-` and `.`.
  private struct Prefix {
    let text: [UInt8]
    let least: Int
    let kind: SecretKind

    init(_ text: String, _ least: Int, _ kind: SecretKind = .serviceToken) {
      self.text = Array(text.utf8)
      self.least = least
      self.kind = kind
    }
  }

  private static let prefixes: [Prefix] = [
    Prefix("ghp_", 20), Prefix("gho_", 20), Prefix("ghu_", 20), Prefix("ghs_", 20), Prefix("ghr_", 20),
    Prefix("github_pat_", 20), Prefix("glpat-", 16), Prefix("xoxb-", 10), Prefix("xoxp-", 10), Prefix("xoxa-", 10),
    Prefix("xoxr-", 10), Prefix("xoxs-", 10), Prefix("xapp-", 10), Prefix("npm_", 30), Prefix("pypi-", 30),
    Prefix("dckr_pat_", 16), Prefix("sk_live_", 16), Prefix("rk_live_", 16), Prefix("AIza", 35), Prefix("hvs.", 20),
    Prefix("SG.", 30), Prefix("AGE-SECRET-KEY-1", 20, .privateKey),
  ]

  private static let firsts: Set<UInt8> = Set(prefixes.map { $0.text[0] })

  /// The secret at `start`, where a run of letters and digits begins; nil if none.
  static func find(_ line: [UInt8], at start: Int) -> (end: Int, kind: SecretKind)? {
    if let end = keyID(line, start) { return (end, .awsKeyID) }
    if let end = webToken(line, start) { return (end, .webToken) }
    if let end = bootstrapToken(line, start) { return (end, .bootstrapToken) }
    guard firsts.contains(line[start]) else { return nil }
    for prefix in prefixes where has(line, prefix.text, at: start) {
      let first = start + prefix.text.count
      var end = first
      while end < line.count, Byte.isName(line[end]) { end += 1 }
      if end - first >= prefix.least { return (end, prefix.kind) }
    }
    return nil
  }

  static func has(_ line: [UInt8], _ text: [UInt8], at start: Int) -> Bool {
    start + text.count <= line.count && line[start..<(start + text.count)].elementsEqual(text)
  }

  /// Whether a text holds another. By bytes, since a log's line need not be text.
  static func holds(_ text: ArraySlice<UInt8>, _ part: [UInt8]) -> Bool {
    guard text.count >= part.count else { return false }
    for start in text.startIndex...(text.endIndex - part.count) where text[start] == part[0] {
      if text[start..<(start + part.count)].elementsEqual(part) { return true }
    }
    return false
  }

  /// AKIA… of a user, ASIA… of a session: 20 capitals and digits. Identifiers of roles and users are no secrets.
  private static func keyID(_ line: [UInt8], _ start: Int) -> Int? {
    guard line[start] == UInt8(ascii: "A"), start + 20 <= line.count,
      ["AKIA", "ASIA", "ABIA", "ACCA"].contains(where: { has(line, Array($0.utf8), at: start) }),
      line[start..<(start + 20)].allSatisfy({ 0x30...0x39 ~= $0 || 0x41...0x5a ~= $0 })
    else { return nil }
    return start + 20 == line.count || !Byte.isLetterOrDigit(line[start + 20]) ? start + 20 : nil
  }

  private static let webTokenStart = Array("eyJ".utf8)

  /// A JSON web token, signed or not; also a truncated one.
  private static func webToken(_ line: [UInt8], _ start: Int) -> Int? {
    guard line[start] == UInt8(ascii: "e"), has(line, webTokenStart, at: start) else { return nil }
    var (end, dots, first) = (start, 0, 0)
    while end < line.count, Byte.isName(line[end]) || line[end] == UInt8(ascii: "=") {
      if line[end] == UInt8(ascii: ".") {
        dots += 1
        if dots == 1 { first = end - start }
      }
      end += 1
    }
    return dots >= 1 && first >= 10 && end - start - first > 8 ? end : nil
  }

  /// kubeadm's and kubelet's `abcdef.0123456789abcdef`.
  private static func bootstrapToken(_ line: [UInt8], _ start: Int) -> Int? {
    let end = start + 23
    guard end <= line.count, line[start + 6] == UInt8(ascii: "."), start == 0 || !Byte.isName(line[start - 1]),
      end == line.count || !Byte.isName(line[end])
    else { return nil }
    var digits = 0
    for at in start..<end where at != start + 6 {
      switch line[at] {
      case 0x30...0x39: digits += 1
      case 0x61...0x7a: continue
      default: return nil
      }
    }
    // A name of two words has none; a random token nearly always has one.
    return digits > 0 ? end : nil
  }

  /// A run of base64 that is long and mixed enough to be a key, a session token or the body of a PEM block: 40 bytes,
  /// as an AWS secret key, or 56 and more. Paths and names of many words do not count.
  static func isKeyMaterial(_ run: ArraySlice<UInt8>) -> Bool {
    guard run.count == 40 || run.count >= 56 else { return false }
    var (upper, lower, digits, slashes, joints) = (0, 0, 0, 0, 0)
    for byte in run {
      switch byte {
      case 0x30...0x39: digits += 1
      case 0x41...0x5a: upper += 1
      case 0x61...0x7a: lower += 1
      case UInt8(ascii: "/"): slashes += 1
      case UInt8(ascii: "-"), UInt8(ascii: "_"): joints += 1
      default: continue
      }
    }
    return upper >= 2 && lower >= 2 && digits >= 1 && slashes * 8 <= run.count && joints * 8 <= run.count
  }

  /// Whether a run ends or begins with a secret key of AWS, with a mark between it and the rest: `s3://bucket/KEY`, `-KEY`.
  static func isKeyBesideMark(_ run: ArraySlice<UInt8>) -> Bool {
    guard run.count > 40 else { return false }
    let (head, tail) = (run.prefix(40), run.suffix(40))
    return !Byte.isLetterOrDigit(run[tail.startIndex - 1]) && isKeyMaterial(tail)
      || !Byte.isLetterOrDigit(run[head.endIndex]) && isKeyMaterial(head)
  }

  /// `password=x` has ten bytes.
  static let leastBase64 = 14

  /// The decoded text of a run of base64; nil if it is not text, as for nearly every word that is not base64.
  static func textOfBase64(_ run: ArraySlice<UInt8>) -> [UInt8]? {
    // Most words fail within their first characters, before there is anything to keep.
    guard decodeBase64(run.prefix(8), { _ in }) else { return nil }
    var text: [UInt8] = []
    return decodeBase64(run, { text.append($0) }) ? text : nil
  }

  /// - Returns: false if it is not base64 of a text; the decoded bytes are then unusable.
  private static func decodeBase64(_ run: ArraySlice<UInt8>, _ take: (UInt8) -> Void) -> Bool {
    var (bits, count) = (UInt32(0), 0)
    for byte in run {
      guard let value = base64Value(byte) else { return false }
      bits = bits << 6 | UInt32(value)
      count += 6
      guard count >= 8 else { continue }
      count -= 8
      let decoded = UInt8(truncatingIfNeeded: bits >> UInt32(count))
      guard 0x20..<0x7f ~= decoded || 0x09...0x0d ~= decoded else { return false }
      take(decoded)
    }
    return true
  }

  private static func base64Value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x41...0x5a: byte - 0x41
    case 0x61...0x7a: byte - 0x61 + 26
    case 0x30...0x39: byte - 0x30 + 52
    case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
    case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
    default: nil
    }
  }

  /// Whether a word, without padding, is the base64 of `user:password`.
  static func isBasicCredential(_ word: ArraySlice<UInt8>) -> Bool {
    guard word.count >= 4 else { return false }
    var (bits, count) = (UInt32(0), 0)
    for byte in word {
      guard let value = base64Value(byte) else { return false }
      bits = bits << 6 | UInt32(value)
      count += 6
      guard count >= 8 else { continue }
      count -= 8
      if UInt8(truncatingIfNeeded: bits >> UInt32(count)) == UInt8(ascii: ":") { return true }
    }
    return false
  }
}

/// Classes of bytes that the scan goes by.
enum Byte {
  static func isLetterOrDigit(_ byte: UInt8) -> Bool {
    0x30...0x39 ~= byte || 0x41...0x5a ~= byte || 0x61...0x7a ~= byte
  }

  /// Part of a name such as `AWS_SECRET_ACCESS_KEY`, `client-key-data` or `registry.password`.
  static func isName(_ byte: UInt8) -> Bool {
    isLetterOrDigit(byte) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
  }

  /// Either alphabet of base64, without the padding.
  static func isBase64(_ byte: UInt8) -> Bool {
    isLetterOrDigit(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "/") || byte == UInt8(ascii: "_")
      || byte == UInt8(ascii: "-")
  }

  static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 || byte == 0x0d }
  static func isQuote(_ byte: UInt8) -> Bool { byte == 0x22 || byte == 0x27 || byte == 0x60 }
}

// SPDX-License-Identifier: Apache-2.0

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Reads dotted-decimal IPv4 (four parts, no leading zeros) or RFC 4291 IPv6 text (`::`, embedded IPv4 allowed).
  /// Nil for anything else: a zone, white space, an octal part, more than one `::`.
  package init?(_ text: String) {
    guard text.utf8.count <= 45 else { return nil }
    if text.utf8.contains(UInt8(ascii: ":")) {
      guard let bits = IPAddress.parseIPv6(Array(text.utf8)) else { return nil }
      self.init(ipv6: bits)
    } else {
      guard let bits = IPAddress.parseIPv4(Array(text.utf8)[...]) else { return nil }
      self.init(ipv4: bits)
    }
  }

  /// Dotted decimal, or the RFC 5952 form: lower case, the longest run of two or more zero groups as `::`.
  package var description: String {
    switch family {
    case .ipv4: return bytes.map(String.init).joined(separator: ".")
    case .ipv6: return describeIPv6()
    }
  }

  private func describeIPv6() -> String {
    if bits >> 32 == 0xffff {
      return "::ffff:" + IPAddress(ipv4: UInt32(truncatingIfNeeded: bits)).description
    }
    let groups = (0..<8).map { UInt16(truncatingIfNeeded: bits >> UInt128(16 * (7 - $0))) }
    var best = 0..<0
    var start = 0
    while start < 8 {
      guard groups[start] == 0 else {
        start += 1
        continue
      }
      let end = groups[start...].firstIndex { $0 != 0 } ?? 8
      if end - start > best.count { best = start..<end }
      start = end
    }
    let hex = { (range: Range<Int>) in groups[range].map { String($0, radix: 16) }.joined(separator: ":") }
    return best.count < 2 ? hex(0..<8) : hex(0..<best.lowerBound) + "::" + hex(best.upperBound..<8)
  }

  private static func parseIPv4(_ text: ArraySlice<UInt8>) -> UInt32? {
    let parts = text.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    guard parts.count == 4 else { return nil }
    var value: UInt32 = 0
    for part in parts {
      guard (1...3).contains(part.count), part.count == 1 || part.first != UInt8(ascii: "0") else { return nil }
      var octet: UInt32 = 0
      for digit in part {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
        octet = octet * 10 + UInt32(digit - UInt8(ascii: "0"))
      }
      guard octet <= 255 else { return nil }
      value = value << 8 | octet
    }
    return value
  }

  private static func parseIPv6(_ text: [UInt8]) -> UInt128? {
    let colon = UInt8(ascii: ":")
    guard let gap = text.indices.dropLast().first(where: { text[$0] == colon && text[$0 + 1] == colon }) else {
      guard let groups = parseGroups(text[...]), groups.count == 8 else { return nil }
      return join(groups)
    }
    let tail = text[(gap + 2)...]
    guard tail.first != colon,
      let head = gap == 0 ? [] : parseGroups(text[..<gap], embedded: false),
      let rest = tail.isEmpty ? [] : parseGroups(tail),
      head.count + rest.count < 8
    else { return nil }
    return join(head + Array(repeating: 0, count: 8 - head.count - rest.count) + rest)
  }

  private static func join(_ groups: [UInt16]) -> UInt128 {
    groups.reduce(0) { $0 << 16 | UInt128($1) }
  }

  /// Colon-separated groups of one to four hex digits; the last may be an IPv4 address where `embedded` allows it.
  private static func parseGroups(_ text: ArraySlice<UInt8>, embedded: Bool = true) -> [UInt16]? {
    var groups: [UInt16] = []
    let parts = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    for (index, part) in parts.enumerated() {
      if embedded, index == parts.count - 1, part.contains(UInt8(ascii: ".")) {
        guard let ipv4 = parseIPv4(part) else { return nil }
        groups += [UInt16(ipv4 >> 16), UInt16(truncatingIfNeeded: ipv4)]
        continue
      }
      guard (1...4).contains(part.count) else { return nil }
      var group: UInt16 = 0
      for digit in part {
        guard let value = HexDigits.value(digit) else { return nil }
        group = group << 4 | UInt16(value)
      }
      groups.append(group)
      guard groups.count <= 8 else { return nil }
    }
    return groups
  }
}

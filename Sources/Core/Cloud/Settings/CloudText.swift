// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Validates texts from cloud answers before use.
enum CloudText {
  /// `PREFIX` and 1 to 40 lower-case letters and digits, such as `subnet-0123456789abcdef0`.
  static func isID(_ text: String, _ prefix: String) -> Bool {
    let tail = text.utf8.dropFirst(prefix.utf8.count)
    return text.hasPrefix(prefix) && (1...40).contains(tail.count)
      && tail.allSatisfy { 48...57 ~= $0 || 97...122 ~= $0 }
  }

  /// A zone or an instance type: lower-case letters, digits, dots and hyphens, at most 64.
  static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy { 48...57 ~= $0 || 97...122 ~= $0 || $0 == 45 || $0 == 46 }
  }

  /// A device or card number, 0…999.
  static func small(_ text: String) -> Int? {
    guard let value = Int(text), (0...999).contains(value) else { return nil }
    return value
  }

  static func address(_ family: AddressFamily) -> @Sendable (String) -> IPAddress? {
    { text in IPAddress(text).flatMap { $0.family == family ? $0 : nil } }
  }

  static func prefix(_ family: AddressFamily) -> @Sendable (String) -> IPPrefix? {
    { text in IPPrefix(text).flatMap { $0.family == family ? $0 : nil } }
  }

  static let ipv4 = address(.ipv4)
  static let ipv6 = address(.ipv6)
  static let ipv4Prefix = prefix(.ipv4)
  static let ipv6Prefix = prefix(.ipv6)
}

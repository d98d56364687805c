// SPDX-License-Identifier: Apache-2.0

/// The identifier that EC2 gives an elastic network interface, `eni-` and hex digits.
package struct ENIID: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let text: String

  /// Nil unless the text is `eni-` and 1 to 40 lower-case letters or digits.
  package init?(_ text: String) {
    let tail = text.utf8.dropFirst(4)
    guard text.hasPrefix("eni-"), (1...40).contains(tail.count),
      tail.allSatisfy({ 48...57 ~= $0 || 97...122 ~= $0 })
    else { return nil }
    self.text = text
  }

  package var description: String { text }

  package static func < (left: ENIID, right: ENIID) -> Bool { left.text < right.text }
}

/// The identifier that EC2 gives a subnet, `subnet-` and hex digits.
package struct SubnetID: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let text: String

  /// Nil unless the text is `subnet-` and 1 to 40 lower-case letters or digits.
  package init?(_ text: String) {
    let tail = text.utf8.dropFirst(7)
    guard text.hasPrefix("subnet-"), (1...40).contains(tail.count),
      tail.allSatisfy({ 48...57 ~= $0 || 97...122 ~= $0 })
    else { return nil }
    self.text = text
  }

  package var description: String { text }

  package static func < (left: SubnetID, right: SubnetID) -> Bool { left.text < right.text }
}

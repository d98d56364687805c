// SPDX-License-Identifier: Apache-2.0

/// The name of a network interface, as the kernel accepts one.
package struct InterfaceName: Sendable, Hashable, Comparable, CustomStringConvertible, LosslessStringConvertible {
  package let text: String

  /// IFNAMSIZ without its closing zero.
  package static let maximumLength = 15

  /// Nil unless the text is 1 to 15 bytes of printable ASCII without white space, `/`, `:` and `%`, and neither `.` nor `..`.
  ///
  /// `%` is refused although the kernel takes it: in a request it makes the name a pattern (`eth%d`).
  /// Source: dev_valid_name and dev_alloc_name, net/core/dev.c.
  package init?(_ text: String) {
    let refused: [UInt8] = [UInt8(ascii: "/"), UInt8(ascii: ":"), UInt8(ascii: "%")]
    guard (1...InterfaceName.maximumLength).contains(text.utf8.count), text != ".", text != "..",
      text.utf8.allSatisfy({ 0x21...0x7e ~= $0 && !refused.contains($0) })
    else { return nil }
    self.text = text
  }

  package var description: String { text }

  package static func < (left: InterfaceName, right: InterfaceName) -> Bool { left.text < right.text }
}

// SPDX-License-Identifier: Apache-2.0

/// A network prefix: an address whose host bits are zero, and a length.
///
/// Stands for a subnet or VPC CIDR, for a prefix that EC2 delegates to an ENI (/28, /80), and, at full length, for one
/// secondary address: the pool treats a /32 and a /28 alike.
package struct IPPrefix: Sendable, Hashable {
  package let address: IPAddress
  /// 0…32 for IPv4, 0…128 for IPv6.
  package let length: Int

  /// Nil if the length is out of range or a host bit is set.
  package init?(address: IPAddress, length: Int) {
    self.init(containing: address, length: length)
    guard self.address == address else { return nil }
  }

  /// The prefix of `length` bits that contains `address`; nil if the length is out of range.
  package init?(containing address: IPAddress, length: Int) {
    guard (0...address.family.bitWidth).contains(length) else { return nil }
    let hostBits = UInt128(address.family.bitWidth - length)
    let masked = hostBits == 128 ? 0 : (address.bits >> hostBits) << hostBits
    guard let network = IPAddress(family: address.family, bits: masked) else { return nil }
    self.address = network
    self.length = length
  }

  /// The prefix that holds this one address: /32 or /128.
  package init(single address: IPAddress) {
    self.address = address
    length = address.family.bitWidth
  }

  package var family: AddressFamily { address.family }

  /// The number of addresses, saturating at `Int.max`.
  package var count: Int {
    let hostBits = family.bitWidth - length
    return hostBits >= Int.bitWidth - 1 ? Int.max : 1 << hostBits
  }

  package var isSingle: Bool { length == family.bitWidth }

  package func contains(_ other: IPAddress) -> Bool {
    IPPrefix(containing: other, length: length) == self
  }

  package func contains(_ other: IPPrefix) -> Bool {
    other.length >= length && contains(other.address)
  }

  package func overlaps(_ other: IPPrefix) -> Bool {
    contains(other) || other.contains(self)
  }

  /// The address at `offset` from the start; nil past the end.
  package func address(at offset: Int) -> IPAddress? {
    guard (0..<count).contains(offset) else { return nil }
    return address.advanced(by: UInt128(offset))
  }
}

extension IPPrefix: Comparable {
  package static func < (left: IPPrefix, right: IPPrefix) -> Bool {
    (left.address, left.length) < (right.address, right.length)
  }
}

extension IPPrefix: CustomStringConvertible, LosslessStringConvertible {
  /// Reads `ADDRESS/LENGTH`; nil if a host bit is set, unlike `init(normalizing:)`.
  package init?(_ text: String) {
    guard let (address, length) = IPPrefix.split(text) else { return nil }
    self.init(address: address, length: length)
  }

  /// Reads `ADDRESS/LENGTH` and clears the host bits, as amazon-vpc-cni-k8s does for lists of CIDRs in settings.
  package init?(normalizing text: String) {
    guard let (address, length) = IPPrefix.split(text) else { return nil }
    self.init(containing: address, length: length)
  }

  package var description: String { "\(address)/\(length)" }

  private static func split(_ text: String) -> (IPAddress, Int)? {
    guard text.utf8.count <= 49 else { return nil }
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, (1...3).contains(parts[1].utf8.count), parts[1].utf8.allSatisfy({ 48...57 ~= $0 }),
      let address = IPAddress(String(parts[0])), let length = Int(parts[1])
    else { return nil }
    return (address, length)
  }
}

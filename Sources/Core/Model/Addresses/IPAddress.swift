// SPDX-License-Identifier: Apache-2.0

/// An address family that a pod or an ENI can have.
package enum AddressFamily: UInt8, Sendable, Hashable, CaseIterable {
  case ipv4 = 4
  case ipv6 = 6

  /// The number of bits in an address: 32 or 128.
  package var bitWidth: Int { self == .ipv4 ? 32 : 128 }

  /// The length of the prefixes that EC2 delegates to ENIs.
  /// Source: Amazon EC2 User Guide, prefix delegation for Amazon EC2 network interfaces.
  package var delegatedLength: Int { self == .ipv4 ? 28 : 80 }
}

/// An IPv4 or IPv6 address without a zone.
///
/// The bits are kept in host order in the low end of one integer, so that comparing, masking and stepping through a
/// subnet are plain arithmetic for both families.
package struct IPAddress: Sendable, Hashable {
  package let family: AddressFamily
  /// Host order; for IPv4 only the low 32 bits can be set.
  package let bits: UInt128

  package init(ipv4 bits: UInt32) {
    family = .ipv4
    self.bits = UInt128(bits)
  }

  package init(ipv6 bits: UInt128) {
    family = .ipv6
    self.bits = bits
  }

  /// The address of `family` with the low bits of `bits`; nil if an IPv4 address would need more than 32 bits.
  package init?(family: AddressFamily, bits: UInt128) {
    if family == .ipv4 && bits > UInt128(UInt32.max) { return nil }
    self.family = family
    self.bits = bits
  }

  /// Reads network-order bytes: 4 for IPv4, 16 for IPv6, nil for any other count.
  package init?(bytes: some Collection<UInt8>) {
    switch bytes.count {
    case 4: self.init(ipv4: bytes.reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
    case 16: self.init(ipv6: bytes.reduce(UInt128(0)) { $0 << 8 | UInt128($1) })
    default: return nil
    }
  }

  /// Network-order bytes, 4 or 16.
  package var bytes: [UInt8] {
    let count = family.bitWidth / 8
    return (0..<count).map { UInt8(truncatingIfNeeded: bits >> UInt128(8 * (count - 1 - $0))) }
  }

  /// The address `offset` steps further; nil outside the family's range.
  package func advanced(by offset: UInt128) -> IPAddress? {
    let (sum, overflow) = bits.addingReportingOverflow(offset)
    return overflow ? nil : IPAddress(family: family, bits: sum)
  }

  /// 169.254.0.0/16 or fe80::/10.
  package var isLinkLocal: Bool {
    switch family {
    case .ipv4: bits >> 16 == 0xa9fe
    case .ipv6: bits >> 118 == 0xfe80 >> 6
    }
  }

  /// Loopback, link-local, multicast and unspecified addresses are never assigned to a pod.
  package var isGlobalUnicast: Bool {
    switch family {
    case .ipv4:
      let first = bits >> 24
      return bits != 0 && first != 127 && !isLinkLocal && first < 224
    case .ipv6:
      return bits > 1 && bits >> 120 != 0xff && !isLinkLocal
    }
  }
}

extension IPAddress: Comparable {
  /// IPv4 before IPv6, then by number.
  package static func < (left: IPAddress, right: IPAddress) -> Bool {
    (left.family.rawValue, left.bits) < (right.family.rawValue, right.bits)
  }
}

// SPDX-License-Identifier: Apache-2.0

/// A 48-bit Ethernet address.
package struct MACAddress: Sendable, Hashable {
  /// The six bytes in the low end, first byte highest.
  package let bits: UInt64

  /// Keeps the low 48 bits.
  package init(bits: UInt64) { self.bits = bits & 0xffff_ffff_ffff }

  /// Six bytes, nil for any other count.
  package init?(bytes: some Collection<UInt8>) {
    guard bytes.count == 6 else { return nil }
    self.init(bits: bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
  }

  package var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: bits >> UInt64(8 * (5 - $0))) } }

  /// A random unicast address of the locally administered range, as amazon-vpc-cni-k8s uses for host veths.
  package static func randomLocal(using generator: inout some RandomNumberGenerator) -> MACAddress {
    let first: UInt64 = 0xff << 40
    let random = UInt64.random(in: 0...0xffff_ffff_ffff, using: &generator)
    let firstByte = (random & first) >> 40
    return MACAddress(bits: (random & ~first) | ((firstByte | 2) & 0xfe) << 40)
  }
}

extension MACAddress: CustomStringConvertible, LosslessStringConvertible {
  /// Reads six colon-separated pairs of hex digits, either case.
  package init?(_ text: String) {
    let parts = text.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var bits: UInt64 = 0
    for part in parts {
      guard part.count == 2, let high = part.first.flatMap(HexDigits.value),
        let low = part.last.flatMap(HexDigits.value)
      else { return nil }
      bits = bits << 8 | UInt64(high << 4 | low)
    }
    self.init(bits: bits)
  }

  /// Lower case, colon-separated.
  package var description: String { bytes.map { HexDigits.encode([$0]) }.joined(separator: ":") }
}

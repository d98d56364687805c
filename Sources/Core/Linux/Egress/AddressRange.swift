// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A range of addresses that pods of one node share, with the rules of the CNI plugin host-local.
package struct AddressRange: Sendable, Hashable, CustomStringConvertible {
  package let subnet: IPPrefix
  package let first: IPAddress
  package let last: IPAddress
  /// Given to no pod.
  package let gateway: IPAddress

  /// - Parameters:
  ///   - subnet: with room for two addresses besides its first.
  ///   - first: nil for the one after the subnet's own address.
  ///   - last: nil for the subnet's last one, in IPv4 the one before the broadcast address.
  ///   - gateway: nil for the one after the subnet's own address.
  /// - Returns: nil if the subnet is too small, or an address is not in it, or `last` is before `first`.
  package init?(subnet: IPPrefix, first: IPAddress? = nil, last: IPAddress? = nil, gateway: IPAddress? = nil) {
    let hostBits = subnet.family.bitWidth - subnet.length
    guard hostBits >= 2, let one = subnet.address.advanced(by: 1) else { return nil }
    let size = hostBits == 128 ? UInt128.max : (UInt128(1) << UInt128(hostBits)) - 1
    guard let end = subnet.address.advanced(by: subnet.family == .ipv4 ? size - 1 : size) else { return nil }
    self.subnet = subnet
    self.first = first ?? one
    self.last = last ?? end
    self.gateway = gateway ?? one
    guard [self.first, self.last, self.gateway].allSatisfy(subnet.contains), self.first <= self.last else { return nil }
  }

  package func contains(_ address: IPAddress) -> Bool {
    address.family == first.family && first <= address && address <= last
  }

  package var description: String { "\(first)-\(last)" }
}

/// Walks through ranges once, each address except gateways, beginning after the address that was given last.
struct AddressWalk: Sequence, IteratorProtocol {
  private let ranges: [AddressRange]
  private var range = 0
  private var current: IPAddress?
  private var start: IPAddress?

  /// - Parameter last: the walk begins after it; ignored if no range contains it.
  init(_ ranges: [AddressRange], after last: IPAddress?) {
    self.ranges = ranges
    guard let last, let index = ranges.firstIndex(where: { $0.contains(last) }) else { return }
    range = index
    current = last
  }

  mutating func next() -> (address: IPAddress, range: AddressRange)? {
    while let address = step() {
      if start == nil { start = address } else if start == address { return nil }
      if address != ranges[range].gateway { return (address, ranges[range]) }
    }
    return nil
  }

  private mutating func step() -> IPAddress? {
    guard ranges.indices.contains(range) else { return nil }
    if let now = current {
      if now == ranges[range].last {
        range = (range + 1) % ranges.count
        current = ranges[range].first
      } else {
        current = now.advanced(by: 1)
      }
    } else {
      current = ranges[range].first
    }
    return current
  }
}

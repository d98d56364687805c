// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A subnet of 65,536 addresses, 10.0.0.0/16. Allocates the lowest free first, single or in aligned blocks of sixteen.
package struct SubnetSpace {
  private var taken = [Bool](repeating: false, count: 1 << 16)
  private var lowestFree = 4
  private var lowestBlock = 1
  private static let base: UInt32 = 0x0a00_0000

  package init() {
    // EC2 reserves the first four addresses and the last one.
    for offset in [0, 1, 2, 3, (1 << 16) - 1] { taken[offset] = true }
  }

  /// Takes all or nothing, as EC2 does.
  ///
  /// - Returns: nil if too few are free.
  package mutating func take(_ kind: CIDRKind, _ count: Int) -> [IPPrefix]? {
    var found: [IPPrefix] = []
    found.reserveCapacity(count)
    while found.count < count {
      guard let next = kind == .prefix ? takeBlock() : takeSingle() else {
        for prefix in found { giveBack(prefix) }
        return nil
      }
      found.append(next)
    }
    return found
  }

  private mutating func takeSingle() -> IPPrefix? {
    while lowestFree < taken.count, taken[lowestFree] { lowestFree += 1 }
    guard lowestFree < taken.count else { return nil }
    taken[lowestFree] = true
    return IPPrefix(single: IPAddress(ipv4: SubnetSpace.base + UInt32(lowestFree)))
  }

  private mutating func takeBlock() -> IPPrefix? {
    while lowestBlock * 16 < taken.count, taken[lowestBlock * 16..<lowestBlock * 16 + 16].contains(true) {
      lowestBlock += 1
    }
    let first = lowestBlock * 16
    guard first < taken.count else { return nil }
    for offset in first..<first + 16 { taken[offset] = true }
    return IPPrefix(address: IPAddress(ipv4: SubnetSpace.base + UInt32(first)), length: 28)
  }

  package mutating func giveBack(_ prefix: IPPrefix) {
    let first = Int(UInt32(truncatingIfNeeded: prefix.address.bits) - SubnetSpace.base)
    for offset in first..<first + prefix.count { taken[offset] = false }
    lowestFree = min(lowestFree, first)
    lowestBlock = min(lowestBlock, first / 16)
  }
}

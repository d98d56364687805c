// SPDX-License-Identifier: Apache-2.0

/// The number of a kernel routing table.
package struct RouteTable: Sendable, Hashable, Comparable, CustomStringConvertible {
  package let number: UInt32

  package init(_ number: UInt32) { self.number = number }

  /// The kernel's table `main`, RT_TABLE_MAIN.
  package static let main = RouteTable(254)

  /// The kernel's table `local`, RT_TABLE_LOCAL.
  package static let local = RouteTable(255)

  /// The table that holds every pod's host route and no default route, so that a miss falls through to the next rule.
  /// The number is outside the range that amazon-vpc-cni-k8s uses (device + 1, VLAN + 100, 10000 + …), what
  /// nm-cloud-setup uses (30200…, 30400…) and the kernel's own 253…255.
  package static let pods = RouteTable(20512)

  /// The table of the ENI at a device index of a network card.
  ///
  /// - Returns: `main` for the primary ENI, device + 1 for the others of card 0, 10000 + device + 100 · card elsewhere.
  /// Source: contract of amazon-vpc-cni-k8s v1.23, route tables.
  package static func eni(device: Int, card: Int = 0) -> RouteTable {
    switch (card, device) {
    case (0, 0): main
    case (0, _): RouteTable(UInt32(device + 1))
    default: RouteTable(UInt32(10000 + device + 100 * card))
    }
  }

  package var description: String { String(number) }

  package static func < (left: RouteTable, right: RouteTable) -> Bool { left.number < right.number }
}

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

/// Priorities of a node's policy rules. The kernel evaluates them in ascending order.
package enum RulePriority {
  /// `lookup PODS`; in the per-pod scheme `to POD lookup main`, one for each pod.
  package static let toPod: UInt32 = 512
  /// `fwmark 0x80/0x80 lookup main`: SNAT and NodePort traffic leaves by the primary ENI.
  package static let primaryMark: UInt32 = 1024
  /// `to CIDR lookup main` for AWS_EXTERNAL_SERVICE_CIDRS.
  package static let externalService: UInt32 = 1535
  /// `fwmark N/MASK lookup ENI-TABLE`; in the per-pod scheme `from POD lookup ENI-TABLE`, one for each pod.
  package static let fromPod: UInt32 = 1536
  /// `not iif lo goto 32766`: only the node's own packets are compared with the ENIs' addresses. Without it every
  /// forwarded packet walks the rules of all ENIs, twice if it comes from outside.
  package static let pastENIs: UInt32 = 32764
  /// `from ENI-ADDRESS lookup ENI-TABLE`, one for each secondary ENI.
  package static let fromENI: UInt32 = 32765
  /// The kernel's own rule `lookup main`.
  package static let main: UInt32 = 32766
}

/// A packet mark as policy rules and firewall rules match it: the bits under a mask.
package struct PacketMark: Sendable, Hashable, CustomStringConvertible {
  package let value: UInt32
  package let mask: UInt32

  /// Keeps the bits of `value` that lie under `mask`.
  package init(value: UInt32, mask: UInt32) {
    self.value = value & mask
    self.mask = mask
  }

  /// The contract's mark of connections that must leave by the primary ENI: AWS_VPC_K8S_CNI_CONNMARK's default.
  package static let primary = PacketMark(value: 0x80, mask: 0x80)

  /// The bits that select the ENI of a pod's packet. Disjoint from 0x80, from portmap's 0x2000, kube-proxy's 0x4000 and
  /// 0x8000 and Cilium's 0x0f00 and 0xffff0000.
  package static let defaultENIMask: UInt32 = 0x7f

  package var description: String { "0x\(String(value, radix: 16))/0x\(String(mask, radix: 16))" }
}

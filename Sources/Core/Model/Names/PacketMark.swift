// SPDX-License-Identifier: Apache-2.0

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

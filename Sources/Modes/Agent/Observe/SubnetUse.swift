// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// What the cloud side knows of one subnet that this node has or may make ENIs in.
struct SubnetUse: Sendable, Hashable {
  let id: SubnetID
  /// By EC2's last word; nil where it has not said.
  let freeAddresses: Int?
  /// Nothing new is made there.
  let isExcluded: Bool

  init(id: SubnetID, freeAddresses: Int?, isExcluded: Bool = false) {
    self.id = id
    self.freeAddresses = freeAddresses
    self.isExcluded = isExcluded
  }
}

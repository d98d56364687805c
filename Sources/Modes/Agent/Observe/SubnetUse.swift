// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Facts about one subnet in which this node has or may create ENIs.
struct SubnetUse: Sendable, Hashable {
  let id: SubnetID
  /// As EC2 last reported; nil if it has not.
  let freeAddresses: Int?
  /// No new ENIs or addresses there.
  let isExcluded: Bool

  init(id: SubnetID, freeAddresses: Int?, isExcluded: Bool = false) {
    self.id = id
    self.freeAddresses = freeAddresses
    self.isExcluded = isExcluded
  }
}

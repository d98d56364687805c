// SPDX-License-Identifier: Apache-2.0

/// What outlives the agent: which attachment has which address, and which addresses cool down.
///
/// Written by `CheckpointDocument`, read by `CheckpointReader`. Schema `vpc-cni-ipam/1` of amazon-vpc-cni-k8s, with one member
/// of our own (`cooldowns`) that the reference's reader passes over.
package struct Checkpoint: Sendable, Hashable {
  package var allocations: [CheckpointAllocation]
  package var cooldowns: [CheckpointCooldown]

  package init(allocations: [CheckpointAllocation] = [], cooldowns: [CheckpointCooldown] = []) {
    self.allocations = allocations
    self.cooldowns = cooldowns
  }

  /// The only version there is.
  package static let version = "vpc-cni-ipam/1"
  /// Where a node keeps it (network card 0).
  package static let path = "/var/run/aws-node/ipam.json"
}

/// One entry of `allocations`.
package struct CheckpointAllocation: Sendable, Hashable {
  package var key: AttachmentKey
  /// `ipv4` or `ipv6`, whichever the entry has.
  package var address: IPAddress
  /// Nanoseconds since 1970.
  package var unixNanoseconds: Int64
  package var pod: PodName
  /// At least 1; 0 and absence mean 1 (older versions wrote none).
  package var interfacesCount: Int

  package init(
    key: AttachmentKey, address: IPAddress, unixNanoseconds: Int64, pod: PodName, interfacesCount: Int = 1
  ) {
    self.key = key
    self.address = address
    self.unixNanoseconds = unixNanoseconds
    self.pod = pod
    self.interfacesCount = interfacesCount
  }
}

/// An address that was released and may not be given out before an instant.
package struct CheckpointCooldown: Sendable, Hashable {
  package var address: IPAddress
  /// Nanoseconds since 1970 at which the cooldown ends.
  package var untilUnixNanoseconds: Int64

  package init(address: IPAddress, untilUnixNanoseconds: Int64) {
    self.address = address
    self.untilUnixNanoseconds = untilUnixNanoseconds
  }
}

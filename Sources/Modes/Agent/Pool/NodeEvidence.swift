// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// Local evidence of attached ENIs at startup: the checkpoint, the kernel's source map, and the links. Each can confirm
/// an ENI; none can disprove one.
struct NodeEvidence: Sendable, Hashable {
  /// Addresses that the checkpoint says are in use.
  var inUse: Set<IPAddress> = []
  /// ENIs that the kernel routes pods' packets by.
  var led: Set<ENIID> = []
  /// MACs of the links in the node's namespace.
  var links: Set<MACAddress> = []

  /// Whether an agent of this node managed the ENI.
  func vouches(for eni: ENIObservation) -> Bool {
    if led.contains(eni.id) { return true }
    return eni.cidrs.contains { cidr in
      if cidr.isSingle { return inUse.contains(cidr.address) }
      return inUse.contains { cidr.contains($0) }
    }
  }

  /// An ENI that IMDS shows and EC2 has not listed: IMDS has neither tags nor types, and may show an ENI for a while
  /// after it was detached. The primary ENI and ENIs that an agent of this node managed count as managed; all others
  /// only take an ENI slot until EC2 lists them.
  func judge(_ shown: ENIObservation, mac: MACAddress) -> ENIObservation {
    guard !shown.isPrimary else { return shown }
    var eni = shown
    eni.isManaged = shown.isManaged && links.contains(mac) && vouches(for: shown)
    eni.isConfirmed = false
    return eni
  }
}

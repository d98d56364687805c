// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// What the node itself knows at the agent's start of what is attached to it: the checkpoint, the kernel's source map, and
/// the links. Each can vouch for an ENI; none condemns one.
struct NodeEvidence: Sendable, Hashable {
  /// Addresses that the checkpoint says are in use.
  var inUse: Set<IPAddress> = []
  /// ENIs that the kernel leads pods' packets to.
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

  /// An ENI that IMDS shows and EC2 has not: IMDS knows neither tags nor types, and may show an ENI for a while after it was
  /// detached. Managed is what an agent of this node has managed, and the primary; everything else takes a place and is
  /// left alone until EC2 has shown it.
  func judge(_ shown: ENIObservation, mac: MACAddress) -> ENIObservation {
    guard !shown.isPrimary else { return shown }
    var eni = shown
    eni.isManaged = shown.isManaged && links.contains(mac) && vouches(for: shown)
    eni.isConfirmed = false
    return eni
  }
}

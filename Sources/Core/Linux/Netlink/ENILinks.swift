// SPDX-License-Identifier: Apache-2.0

/// Which of the links that carry an ENI's MAC is the ENI: VLANs, bridges, bonds and macvlans take over the MAC of the
/// device that they stand on.
package struct ENILinks: Sendable {
  /// The ENI's own; nil where there is none.
  package let best: Link?
  /// Others that could as well be it: something on this node has copied a MAC.
  package let rivals: [Link]

  /// Kinds that stand on another device.
  private static let stacked: Set<String> = [
    "vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "netkit",
  ]

  /// - Parameter links: all with that MAC, in any order.
  package init(_ links: [Link]) {
    let candidates = links.filter { !ENILinks.stacked.contains($0.kind ?? "") }.sorted { left, right in
      // A device of hardware has no kind. Beyond that the older link, which has the lower index.
      (left.kind == nil ? 0 : 1, left.index) < (right.kind == nil ? 0 : 1, right.index)
    }
    best = candidates.first
    rivals = Array(candidates.dropFirst())
  }
}

// SPDX-License-Identifier: Apache-2.0

/// Which of the links with an ENI's MAC is the ENI: VLANs, bridges, bonds and macvlans inherit the MAC of their lower
/// device.
package struct ENILinks: Sendable {
  /// The ENI's link; nil if there is none.
  package let best: Link?
  /// Other candidates: another program copied the MAC.
  package let rivals: [Link]

  /// Kinds with a lower device.
  private static let stacked: Set<String> = [
    "vlan", "bridge", "bond", "team", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "netkit",
  ]

  /// - Parameter links: all with that MAC, in any order.
  package init(_ links: [Link]) {
    let candidates = links.filter { !ENILinks.stacked.contains($0.kind ?? "") }.sorted { left, right in
      // A hardware device has no kind. Among several, the older link, which has the lower index.
      (left.kind == nil ? 0 : 1, left.index) < (right.kind == nil ? 0 : 1, right.index)
    }
    best = candidates.first
    rivals = Array(candidates.dropFirst())
  }
}

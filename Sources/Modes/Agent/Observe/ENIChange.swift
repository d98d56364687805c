// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Differences between two snapshots of the pool.
struct ENIChange: Sendable, Hashable {
  let addedENIs: Int
  let removedENIs: Int
  /// Includes addresses and prefixes of ENIs that were already attached.
  let addedCIDRs: Int
  let removedCIDRs: Int

  init(_ before: [ENISnapshot], _ after: [ENISnapshot]) {
    let old = Dictionary(before.map { ($0.eni.id, Set($0.cidrs.map(\.prefix))) }) { _, last in last }
    let new = Dictionary(after.map { ($0.eni.id, Set($0.cidrs.map(\.prefix))) }) { _, last in last }
    addedENIs = new.keys.count { old[$0] == nil }
    removedENIs = old.keys.count { new[$0] == nil }
    var (added, removed) = (0, 0)
    for (eni, cidrs) in new {
      guard let known = old[eni] else { continue }
      added += cidrs.subtracting(known).count
      removed += known.subtracting(cidrs).count
    }
    (addedCIDRs, removedCIDRs) = (added, removed)
  }
}

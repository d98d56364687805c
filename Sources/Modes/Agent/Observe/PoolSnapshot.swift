// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// A consistent snapshot of the pool for a scrape, taken at once.
struct PoolSnapshot: Sendable {
  var counts: PoolCounts
  var enis: [ENISnapshot]
  /// ENIs that may be attached, including unmanaged ones.
  var eniLimit: Int
  /// Pod addresses that one ENI can hold.
  var addressesPerENI: Int
  var blockedCause: FailureCause?
  var forcedENIs: Int
  var forcedAddresses: Int
  var fallbackSubnets: [SubnetID]
  var pausedSubnets: [SubnetID]
}

/// All assignments at one moment, for introspection.
struct PoolHoldings: Sendable {
  var enis: [ENISnapshot]
  var assignments: [Assignment]
  /// Addresses of deleted pods, with the end of their cooldown.
  var cooldowns: [CheckpointCooldown]
  /// IP_COOLDOWN_PERIOD in use.
  var cooldown: Duration
}

/// Read-only views for other parts.
extension AddressPool {
  func snapshot() -> PoolSnapshot { PoolSnapshot(pool, now: time().instant) }

  func holdings() -> PoolHoldings {
    PoolHoldings(
      enis: pool.enis, assignments: pool.assignments, cooldowns: pool.cooldowns(now: time()),
      cooldown: pool.settings.cooldown)
  }
}

extension PoolSnapshot {
  init(_ pool: Pool, now: PoolInstant) {
    let settings = pool.settings
    let perENI =
      switch settings.family {
      case .ipv4: settings.slotsPerENI * (settings.usesPrefixes ? settings.prefixSize : 1)
      case .ipv6: settings.prefixSize
      }
    self.init(
      counts: pool.counts, enis: pool.enis, eniLimit: settings.eniLimit,
      addressesPerENI: perENI, blockedCause: pool.blockedCause(now: now),
      forcedENIs: pool.forcedRemovals.enis,
      forcedAddresses: pool.forcedRemovals.addresses, fallbackSubnets: pool.fallbackSubnetIDs,
      pausedSubnets: pool.pausedSubnetIDs)
  }
}

extension PoolEvent {
  /// Whether the event can change the pool's ENIs without a request from the pool.
  var bringsListing: Bool {
    switch self {
    case .observed, .ended(_, .listed): true
    default: false
    }
  }
}

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

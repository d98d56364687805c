// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The pool at one moment, for a scrape: everything is of the same moment, and the pool is asked once.
struct PoolSnapshot: Sendable {
  var counts: PoolCounts
  var enis: [ENISnapshot]
  /// ENIs that may be attached, those that others manage included.
  var eniLimit: Int
  /// Addresses for pods that one ENI can carry.
  var addressesPerENI: Int
  var blockedCause: FailureCause?
  var forcedENIs: Int
  var forcedAddresses: Int
  var fallbackSubnets: [SubnetID]
  var pausedSubnets: [SubnetID]
}

/// Who has which address at one moment, for introspection.
struct PoolHoldings: Sendable {
  var enis: [ENISnapshot]
  var assignments: [Assignment]
  /// Addresses of deleted pods, with the moment at which they may be used again.
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
    let unit = settings.usesPrefixes ? PoolSettings.addressesPerPrefix : 1
    self.init(
      counts: pool.counts, enis: pool.enis, eniLimit: settings.eniLimit,
      addressesPerENI: settings.slotsPerENI * unit, blockedCause: pool.blockedCause(now: now),
      forcedENIs: pool.forcedRemovals.enis,
      forcedAddresses: pool.forcedRemovals.addresses, fallbackSubnets: pool.fallbackSubnetIDs,
      pausedSubnets: pool.pausedSubnetIDs)
  }
}

extension PoolEvent {
  /// Whether it can make the pool's ENIs other ones without the pool having asked for that.
  var bringsListing: Bool {
    switch self {
    case .observed, .ended(_, .listed): true
    default: false
    }
  }
}

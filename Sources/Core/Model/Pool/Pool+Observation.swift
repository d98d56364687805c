// SPDX-License-Identifier: Apache-2.0

/// What metrics say of the pool's growth.
extension Pool {
  /// Why the pool does not get the addresses that it wants, nil where it wants none or is about to get them.
  package func blockedCause(now: PoolInstant) -> FailureCause? {
    isStarted && targets.shortage > 0 ? blockingCause(now) : nil
  }

  /// Subnets in which single addresses are used in place of prefixes.
  package var fallbackSubnetIDs: [SubnetID] { fallbackSubnets.keys.sorted() }

  /// Subnets that were full and are left alone for now.
  package var pausedSubnetIDs: [SubnetID] { pausedSubnets.keys.sorted() }
}

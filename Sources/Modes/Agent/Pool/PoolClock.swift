// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCSystem

/// The two clocks of every pool event.
enum PoolClock {
  /// CLOCK_BOOTTIME, which neither jumps nor stops while the machine sleeps, and the wall clock.
  static func now() -> PoolTime {
    PoolTime(
      instant: PoolInstant(nanoseconds: SystemClock.sinceBoot.nanoseconds),
      unixNanoseconds: SystemClock.wall.nanoseconds)
  }
}

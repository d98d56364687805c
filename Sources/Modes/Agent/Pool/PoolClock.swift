// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCModel

/// The two clocks of every pool event.
enum PoolClock {
  /// CLOCK_BOOTTIME, which neither jumps nor stops while the machine sleeps, and the wall clock.
  static func now() -> PoolTime {
    PoolTime(
      instant: PoolInstant(nanoseconds: read(CLOCK_BOOTTIME)), unixNanoseconds: read(CLOCK_REALTIME))
  }

  private static func read(_ clock: clockid_t) -> Int64 {
    var time = timespec()
    // Cannot fail for these two clocks.
    clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

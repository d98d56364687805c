// SPDX-License-Identifier: Apache-2.0
// struct timespec counts as CProcess's, whose headers include time.h too.

internal import CProcess
internal import Glibc
package import VPCModel

/// The kernel's clocks.
package enum SystemClock {
  /// CLOCK_REALTIME: since 1970-01-01 UTC.
  case wall
  /// CLOCK_BOOTTIME: since the start of the machine; neither jumps nor stops while the machine sleeps.
  case sinceBoot
  /// CLOCK_MONOTONIC: as `sinceBoot`, and stops while the machine sleeps.
  case monotonic

  package var nanoseconds: Int64 {
    let clock =
      switch self {
      case .wall: CLOCK_REALTIME
      case .sinceBoot: CLOCK_BOOTTIME
      case .monotonic: CLOCK_MONOTONIC
      }
    var time = timespec()
    // Cannot fail for these clocks.
    clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
  }
}

extension UTCTime {
  /// The machine's clock, CLOCK_REALTIME, rounded down to the millisecond.
  package static var now: UTCTime { UTCTime(milliseconds: SystemClock.wall.nanoseconds / 1_000_000) }
}

extension Duration {
  /// How long one poll(2) waits, in milliseconds: rounded up, since a wait rounded down to zero would spin; at most about
  /// a minute, after which the caller looks at its clock again.
  package var pollMilliseconds: Int32 { Int32(min(max(wholeMilliseconds + 1, 0), 60_000)) }
}

extension timespec {
  init(nanoseconds: Int64) {
    self.init(tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
  }
}

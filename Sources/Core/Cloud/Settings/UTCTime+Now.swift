// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel

extension UTCTime {
  /// The machine's clock, CLOCK_REALTIME, rounded down to the millisecond.
  package static var now: UTCTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UTCTime(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
  }
}

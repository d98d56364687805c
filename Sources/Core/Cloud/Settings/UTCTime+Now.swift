// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel

extension UTCTime {
  /// The machine's clock in whole seconds, CLOCK_REALTIME.
  package static var now: UTCTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UTCTime(seconds: Int64(time.tv_sec))
  }
}

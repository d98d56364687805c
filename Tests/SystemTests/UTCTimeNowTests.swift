// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VPCModel
import VPCSystem

@Suite struct UTCTimeNowTests {
  private func kernelMilliseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }

  /// The metrics helper compares it with start times of processes: whole seconds would make older ones younger.
  @Test func nowIsToTheMillisecond() {
    let before = kernelMilliseconds()
    let now = UTCTime.now.milliseconds
    #expect(before <= now && now <= kernelMilliseconds())
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel
import VPCSystem

@Suite struct PollTimeTests {
  /// A negative time would make poll(2) wait forever, and zero would make its caller spin.
  @Test(arguments: [
    (Duration.zero, Int32(1)), (.nanoseconds(1), 1), (.microseconds(1500), 2), (.milliseconds(3), 4),
    (.seconds(-5), 0), (.seconds(3600), 60_000), (.seconds(Int64.max), 60_000),
  ])
  func waitsAreRoundedUpAndBounded(time: Duration, milliseconds: Int32) {
    #expect(time.pollMilliseconds == milliseconds)
  }

  @Test func unitsAreRoundedTowardsZero() {
    #expect(Duration.nanoseconds(1_999_999).wholeMilliseconds == 1)
    #expect(Duration.nanoseconds(-1_999_999).wholeMilliseconds == -1)
    #expect(Duration.nanoseconds(1_999).wholeMicroseconds == 1)
    #expect(Duration.seconds(Int64.max).wholeMilliseconds == Int64.max / 1_000_000)
  }
}

// SPDX-License-Identifier: Apache-2.0

/// A point on a clock that only goes forward and counts a suspended machine too (CLOCK_BOOTTIME).
package struct PoolInstant: Sendable, Hashable, Comparable {
  /// Nanoseconds since the machine started.
  package let nanoseconds: Int64

  package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

  /// - Parameter sinceBoot: what the clock shows; saturates at about 292 years.
  package init(sinceBoot: Duration) { self.init(nanoseconds: sinceBoot.saturatedNanoseconds) }

  package var sinceBoot: Duration { .nanoseconds(nanoseconds) }

  package static func < (left: PoolInstant, right: PoolInstant) -> Bool { left.nanoseconds < right.nanoseconds }

  package static func + (instant: PoolInstant, step: Duration) -> PoolInstant {
    let (sum, overflow) = instant.nanoseconds.addingReportingOverflow(step.saturatedNanoseconds)
    return PoolInstant(nanoseconds: overflow ? Int64.max : sum)
  }

  /// The time from `right` to `left`, negative where `left` is earlier.
  package static func - (left: PoolInstant, right: PoolInstant) -> Duration {
    .nanoseconds(left.nanoseconds) - .nanoseconds(right.nanoseconds)
  }
}

/// The time of an event: the monotonic clock, which decides everything, and the wall clock, which is only written to
/// the checkpoint for other processes.
package struct PoolTime: Sendable, Hashable {
  package var instant: PoolInstant
  /// Nanoseconds since 1970-01-01 UTC.
  package var unixNanoseconds: Int64

  package init(instant: PoolInstant, unixNanoseconds: Int64) {
    self.instant = instant
    self.unixNanoseconds = unixNanoseconds
  }
}

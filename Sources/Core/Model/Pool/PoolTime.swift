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

extension Duration {
  /// Whole nanoseconds; beyond the range of Int64 its nearest end.
  package var saturatedNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? Int64.min : Int64.max }
    let (sum, carried) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
    return carried ? (seconds < 0 ? Int64.min : Int64.max) : sum
  }

  /// For metrics and records.
  package var inSeconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }

  /// `12 s`, `1.5 s`, `250 ms`: for people, at most one digit after the point.
  package var brief: String {
    let milliseconds = saturatedNanoseconds / 1_000_000
    if milliseconds.magnitude < 1000 { return "\(milliseconds) ms" }
    let tenths = milliseconds / 100
    return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\((tenths % 10).magnitude) s"
  }
}

// SPDX-License-Identifier: Apache-2.0

extension Duration {
  /// Whole nanoseconds; beyond the range of Int64 its nearest end.
  package var saturatedNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? Int64.min : Int64.max }
    let (sum, carried) = scaled.addingReportingOverflow(attoseconds / 1_000_000_000)
    return carried ? (seconds < 0 ? Int64.min : Int64.max) : sum
  }

  /// Rounded towards zero, as `saturatedNanoseconds`.
  package var wholeMicroseconds: Int64 { saturatedNanoseconds / 1_000 }

  /// Rounded towards zero, as `saturatedNanoseconds`.
  package var wholeMilliseconds: Int64 { saturatedNanoseconds / 1_000_000 }

  /// For metrics and records.
  package var inSeconds: Double {
    let (seconds, attoseconds) = components
    return Double(seconds) + Double(attoseconds) * 1e-18
  }

  /// `12 s`, `1.5 s`, `250 ms`: for people, at most one digit after the point.
  package var brief: String {
    let milliseconds = wholeMilliseconds
    if milliseconds.magnitude < 1000 { return "\(milliseconds) ms" }
    let tenths = milliseconds / 100
    return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\((tenths % 10).magnitude) s"
  }
}

// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// Durations as Go writes and reads them: `1m30s`, `1.5h`, `300ms`.
///
/// Source: Go's time package, ParseDuration and Duration.String; the probe of amazon-vpc-cni-k8s parses its flags this
/// way.
enum GoDuration {
  private static let units: [(name: String, nanoseconds: Double)] = [
    ("ns", 1), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12),
  ]

  /// Nil for an invalid duration: no digits, no unit (but `0`), more than about 290 years.
  static func parse(_ text: String) -> Duration? {
    var rest = text[...]
    var sign = 1.0
    if let first = rest.first, first == "-" || first == "+" {
      sign = first == "-" ? -1 : 1
      rest = rest.dropFirst()
    }
    if rest == "0" { return .zero }
    guard !rest.isEmpty, rest.utf8.count <= 64 else { return nil }
    var total = 0.0
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest.dropFirst(digits.count)
      let unit = rest.prefix { !$0.isNumber && $0 != "." }
      rest = rest.dropFirst(unit.count)
      // `1.` and `.5` are numbers to Go, `.` is not.
      let text = (digits.first == "." ? "0" : "") + digits + (digits.last == "." ? "0" : "")
      guard digits != ".", let value = Double(text), let size = units.first(where: { $0.name == unit }) else {
        return nil
      }
      total += value * size.nanoseconds
    }
    guard total < 9.2e18 else { return nil }
    return .nanoseconds(Int64(sign * total))
  }

  static func text(_ duration: Duration) -> String {
    let total = duration.saturatedNanoseconds
    let sign = total < 0 ? "-" : ""
    let size = total.magnitude
    switch size {
    case 0: return "0s"
    case ..<1_000: return "\(sign)\(size)ns"
    case ..<1_000_000: return sign + decimal(size, 1_000) + "µs"
    case ..<1_000_000_000: return sign + decimal(size, 1_000_000) + "ms"
    default:
      let minutes = size / 60_000_000_000
      let tail = decimal(size % 60_000_000_000, 1_000_000_000) + "s"
      if minutes == 0 { return sign + tail }
      return minutes < 60 ? "\(sign)\(minutes)m\(tail)" : "\(sign)\(minutes / 60)h\(minutes % 60)m\(tail)"
    }
  }

  /// `value / unit` with as many digits behind the point as it takes.
  private static func decimal(_ value: UInt64, _ unit: UInt64) -> String {
    guard value % unit != 0 else { return String(value / unit) }
    var fraction = String(String(unit + value % unit).dropFirst())
    while fraction.last == "0" { fraction.removeLast() }
    return "\(value / unit).\(fraction)"
  }
}

// SPDX-License-Identifier: Apache-2.0

/// Writes families in Prometheus's text format.
///
/// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
enum MetricText {
  static func write(_ family: MetricFamily, to out: inout String) {
    let series = family.snapshot
    guard !series.isEmpty else { return }
    out += "# HELP \(family.name) \(escaped(family.help, quotes: false))\n"
    out += "# TYPE \(family.name) \(family.kind.name)\n"
    for (labels, value) in series {
      let pairs = Array(zip(family.labels, labels))
      switch family.kind {
      case .counter, .gauge:
        line(family.name, pairs, number(value.number), to: &out)
      case .histogram(let bounds):
        var sum: UInt64 = 0
        for (index, bound) in (bounds + [.infinity]).enumerated() {
          sum += index < value.buckets.count ? value.buckets[index] : 0
          line(family.name + "_bucket", pairs + [("le", number(bound))], String(sum), to: &out)
        }
        totals(family.name, pairs, value, to: &out)
      case .summary(let quantiles):
        let sorted = value.window.sorted()
        for quantile in quantiles {
          // The nearest rank; NaN without observations, as in the Go library.
          let rank =
            sorted.isEmpty ? 0 : min(sorted.count - 1, max(0, Int((quantile * Double(sorted.count)).rounded(.up)) - 1))
          let found = sorted.isEmpty ? Double.nan : sorted[rank]
          line(family.name, pairs + [("quantile", number(quantile))], number(found), to: &out)
        }
        totals(family.name, pairs, value, to: &out)
      }
    }
  }

  private static func totals(
    _ name: String, _ pairs: [(String, String)], _ value: MetricFamily.Value, to out: inout String
  ) {
    line(name + "_sum", pairs, number(value.number), to: &out)
    line(name + "_count", pairs, String(value.count), to: &out)
  }

  private static func line(_ name: String, _ pairs: [(String, String)], _ value: String, to out: inout String) {
    out += name
    if !pairs.isEmpty {
      out += "{" + pairs.map { "\($0)=\"\(escaped($1, quotes: true))\"" }.joined(separator: ",") + "}"
    }
    out += " \(value)\n"
  }

  /// Whole numbers without a point, as people expect of counts.
  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
    if value == value.rounded(), value.magnitude < 1e15 { return String(Int64(value)) }
    return String(value)
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var out = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\"" where quotes: out += "\\\""
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// All series of one name.
final class MetricFamily: Sendable {
  enum Kind: Sendable, Equatable {
    case counter
    case gauge
    case histogram(buckets: [Double])
    case summary(quantiles: [Double])

    /// The word of the text format.
    var name: String {
      switch self {
      case .counter: "counter"
      case .gauge: "gauge"
      case .histogram: "histogram"
      case .summary: "summary"
      }
    }
  }

  /// What one series holds.
  struct Value: Sendable {
    /// The number of a counter or gauge; the sum of a histogram or summary.
    var number = 0.0
    var count: UInt64 = 0
    /// A histogram's observations by bucket, each counted once, the infinite one last.
    var buckets: [UInt64] = []
    /// A summary's last observations, a ring of `windowSize`.
    var window: [Double] = []
  }

  /// The number of last observations per series used for quantiles.
  static let windowSize = 256

  let name: String
  let help: String
  let kind: Kind
  let labels: [String]
  private let series = Mutex<[[String]: Value]>([:])

  init(_ name: String, _ help: String, _ kind: Kind, _ labels: [String]) {
    self.name = name
    self.help = help
    self.kind = kind
    self.labels = labels
    // A series without labels exists from the start, so that it reads 0 and not nothing.
    if labels.isEmpty { update([]) { _ in } }
  }

  /// Changes a series, and creates it if needed.
  ///
  /// - Parameter values: of the labels, in order; missing ones are empty, extra ones are dropped.
  func update(_ values: [String], _ change: (inout Value) -> Void) {
    var key = Array(values.prefix(labels.count))
    key += Array(repeating: "", count: labels.count - key.count)
    series.withLock { series in
      if series[key] == nil, series.count >= MetricRegistry.seriesLimit {
        key = Array(repeating: "overflow", count: labels.count)
      }
      change(&series[key, default: Value()])
    }
  }

  func remove(_ values: [String]) {
    series.withLock { _ = $0.removeValue(forKey: values) }
  }

  func replaceAll(_ values: [[String]: Double]) {
    var next: [[String]: Value] = [:]
    for (key, number) in values where key.count == labels.count && next.count < MetricRegistry.seriesLimit {
      next[key] = Value(number: number)
    }
    series.withLock { [next] series in series = next }
  }

  /// Label values and value of every series, in the order of the label values.
  var snapshot: [(labels: [String], value: Value)] {
    series.withLock { series in series.map { (labels: $0.key, value: $0.value) } }
      .sorted { $0.labels.lexicographicallyPrecedes($1.labels) }
  }
}

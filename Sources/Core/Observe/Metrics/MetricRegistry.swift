// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The series of one process, for Prometheus.
///
/// Families are created at startup, series on first use. The number of series per family is bounded: unbounded label
/// values (such as error texts) would otherwise grow the process endlessly. Series beyond the limit are counted in one
/// series whose label values are all `overflow`.
package final class MetricRegistry: Sendable {
  /// Series of one family at most.
  package static let seriesLimit = 1_000

  private let families = Mutex<[MetricFamily]>([])

  package init() {}

  /// A number that only grows. Names and label names are literals and must be valid for Prometheus.
  package func counter(_ name: String, _ help: String, labels: [String] = []) -> MetricCounter {
    MetricCounter(family: add(MetricFamily(name, help, .counter, labels)))
  }

  /// A number that goes up and down.
  package func gauge(_ name: String, _ help: String, labels: [String] = []) -> MetricGauge {
    MetricGauge(family: add(MetricFamily(name, help, .gauge, labels)))
  }

  /// Observations counted by upper bounds.
  ///
  /// - Parameter buckets: upper bounds in rising order, without the infinite one.
  package func histogram(
    _ name: String, _ help: String, labels: [String] = [], buckets: [Double] = MetricHistogram.standardBuckets
  ) -> MetricHistogram {
    MetricHistogram(family: add(MetricFamily(name, help, .histogram(buckets: buckets), labels)))
  }

  /// Count and sum of observations, with quantiles over the last observations if requested.
  ///
  /// - Parameter quantiles: each between 0 and 1; none gives only count and sum, like the summaries of
  ///   amazon-vpc-cni-k8s.
  package func summary(
    _ name: String, _ help: String, labels: [String] = [], quantiles: [Double] = []
  ) -> MetricSummary {
    MetricSummary(family: add(MetricFamily(name, help, .summary(quantiles: quantiles), labels)))
  }

  /// Everything in the text format, families in the order of their names.
  ///
  /// Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4)
  package func text() -> String {
    let all = families.withLock { $0 }.sorted { $0.name < $1.name }
    var out = ""
    for family in all { MetricText.write(family, to: &out) }
    return out
  }

  /// The description of one family, with or without series.
  package struct Description: Sendable, Hashable {
    package let name: String
    /// counter, gauge, histogram or summary.
    package let type: String
    package let labels: [String]
    package let help: String
  }

  /// Every family, in the order of the names.
  package var descriptions: [Description] {
    families.withLock { $0 }.sorted { $0.name < $1.name }
      .map { Description(name: $0.name, type: $0.kind.name, labels: $0.labels, help: $0.help) }
  }

  private func add(_ family: MetricFamily) -> MetricFamily {
    families.withLock { families in
      // Requested twice: the same series, so that two parts of a process may use one metric.
      if let same = families.first(where: { $0.name == family.name && $0.labels == family.labels }) { return same }
      families.append(family)
      return family
    }
  }
}

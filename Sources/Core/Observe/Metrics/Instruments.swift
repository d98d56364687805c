// SPDX-License-Identifier: Apache-2.0

/// A number that only grows.
package struct MetricCounter: Sendable {
  let family: MetricFamily

  /// - Parameter amount: not negative; a negative one is not counted.
  package func increment(by amount: Double = 1, _ labels: String...) {
    guard amount >= 0 else { return }
    family.update(labels) { $0.number += amount }
  }

  /// Sets an externally kept count; a lower value looks like a restart.
  package func set(total: Double, _ labels: String...) { family.update(labels) { $0.number = total } }
}

/// A number that goes up and down.
package struct MetricGauge: Sendable {
  let family: MetricFamily

  package func set(_ value: Double, _ labels: String...) { family.update(labels) { $0.number = value } }

  package func add(_ amount: Double, _ labels: String...) { family.update(labels) { $0.number += amount } }

  /// Removes the series of an object that is gone.
  package func remove(_ labels: String...) { family.remove(labels) }

  /// Replaces all series with these.
  ///
  /// - Parameter series: by label values, in the order of the labels; those beyond the registry's limit are dropped.
  package func replaceAll(_ series: [[String]: Double]) { family.replaceAll(series) }
}

/// Observations counted by upper bounds.
package struct MetricHistogram: Sendable {
  /// Seconds. Source: the default buckets of Prometheus's Go library, which amazon-vpc-cni-k8s uses.
  package static let standardBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

  let family: MetricFamily

  package func observe(_ value: Double, _ labels: String...) {
    guard case .histogram(let bounds) = family.kind else { return }
    family.update(labels) { series in
      if series.buckets.isEmpty { series.buckets = Array(repeating: 0, count: bounds.count + 1) }
      series.buckets[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
      series.count += 1
      series.number += value
    }
  }
}

/// Count, sum and perhaps quantiles of observations.
package struct MetricSummary: Sendable {
  let family: MetricFamily

  package func observe(_ value: Double, _ labels: String...) {
    guard case .summary(let quantiles) = family.kind else { return }
    family.update(labels) { series in
      if !quantiles.isEmpty {
        if series.window.count < MetricFamily.windowSize {
          series.window.append(value)
        } else {
          series.window[Int(series.count % UInt64(MetricFamily.windowSize))] = value
        }
      }
      series.count += 1
      series.number += value
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// One value of one metric at one moment, as PutMetricData takes it.
package struct MetricDatum: Sendable, Hashable {
  /// Source: the valid values of MetricDatum's Unit, CloudWatch API Reference.
  package enum Unit: String, Sendable {
    case count = "Count"
    case milliseconds = "Milliseconds"
  }

  package let name: String
  /// By name; CloudWatch keeps each combination as a metric of its own.
  package let dimensions: [String: String]
  /// Finite.
  package let value: Double
  package let unit: Unit
  package let time: UTCTime

  package init(name: String, dimensions: [String: String], value: Double, unit: Unit, time: UTCTime) {
    self.name = name
    self.dimensions = dimensions
    self.value = value
    self.unit = unit
    self.time = time
  }

  /// The same value in another metric.
  package func with(_ dimensions: [String: String]) -> MetricDatum {
    MetricDatum(name: name, dimensions: dimensions, value: value, unit: unit, time: time)
  }

  /// The fields of the `number`-th datum of a call, from 1, in the query protocol.
  func fields(_ number: Int) -> [(name: String, value: String)] {
    let prefix = "MetricData.member.\(number)"
    var fields = [(name: "\(prefix).MetricName", value: name)]
    for (index, dimension) in dimensions.sorted(by: { $0.key < $1.key }).enumerated() {
      fields.append((name: "\(prefix).Dimensions.member.\(index + 1).Name", value: dimension.key))
      fields.append((name: "\(prefix).Dimensions.member.\(index + 1).Value", value: dimension.value))
    }
    fields.append((name: "\(prefix).Timestamp", value: "\(time)"))
    fields.append((name: "\(prefix).Value", value: "\(value)"))
    fields.append((name: "\(prefix).Unit", value: unit.rawValue))
    return fields
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud

/// Data that CloudWatch does not have yet, oldest first. What there is no room for is dropped from the old end and counted.
struct PublishQueue: Sendable {
  /// Two hours of rounds at the default interval; CloudWatch takes data that are up to two weeks old.
  static let standardLimit = 5_000

  private let limit: Int
  private var waiting: [MetricDatum] = []
  /// Data dropped for want of room since the queue was made.
  private(set) var overflowed = 0

  init(limit: Int = PublishQueue.standardLimit) { self.limit = limit }

  var count: Int { waiting.count }

  mutating func add(_ data: [MetricDatum]) {
    waiting += data
    dropOldest()
  }

  /// The oldest data, at most `size`; they are out of the queue, and its owner puts them back where they were not sent.
  mutating func take(_ size: Int) -> [MetricDatum] {
    let batch = Array(waiting.prefix(size))
    waiting.removeFirst(batch.count)
    return batch
  }

  mutating func putBack(_ batch: [MetricDatum]) {
    waiting.insert(contentsOf: batch, at: 0)
    dropOldest()
  }

  private mutating func dropOldest() {
    let excess = waiting.count - limit
    guard excess > 0 else { return }
    waiting.removeFirst(excess)
    overflowed += excess
  }
}

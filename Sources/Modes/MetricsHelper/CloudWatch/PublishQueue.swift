// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud

/// Unsent data, oldest first. Without room, the oldest are dropped and counted.
struct PublishQueue: Sendable {
  /// Two hours of rounds at the default interval; CloudWatch takes data that are up to two weeks old.
  static let standardLimit = 5_000

  private let limit: Int
  private var waiting: [MetricDatum] = []
  /// Data dropped for lack of room since the queue was created.
  private(set) var overflowed = 0

  init(limit: Int = PublishQueue.standardLimit) { self.limit = limit }

  var count: Int { waiting.count }

  mutating func add(_ data: [MetricDatum]) {
    waiting += data
    dropOldest()
  }

  /// Removes and returns the oldest data, at most `size`; the owner puts unsent ones back.
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

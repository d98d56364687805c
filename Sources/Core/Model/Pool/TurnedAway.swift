// SPDX-License-Identifier: Apache-2.0

/// Pods that were refused an address a short time ago and will ask again: kubelet makes another sandbox 10 to 15 s after
/// one that failed. Until then they count as demand, so that growth goes on for them and nothing is given back.
struct TurnedAway: Sendable {
  /// A little longer than kubelet takes.
  static let memory = Duration.seconds(20)
  /// No more pods are kept than that.
  static let limit = 1024

  private var until: [PodName: PoolInstant] = [:]
  /// None of them ends earlier.
  private var earliest: PoolInstant?

  var isEmpty: Bool { until.isEmpty }
  var count: Int { until.count }
  /// When all of them are forgotten, nil where there is none.
  var latest: PoolInstant? { until.values.max() }

  mutating func note(_ pod: PodName, _ now: PoolInstant) {
    guard until.count < TurnedAway.limit || until[pod] != nil else { return }
    let end = now + TurnedAway.memory
    until[pod] = end
    earliest = min(earliest ?? end, end)
  }

  /// The pod asks again.
  mutating func remove(_ pod: PodName) {
    if !until.isEmpty { until[pod] = nil }
  }

  /// Forgets those that did not come back.
  mutating func expire(_ now: PoolInstant) {
    guard let earliest, earliest <= now else { return }
    until = until.filter { $0.value > now }
    self.earliest = until.values.min()
  }
}

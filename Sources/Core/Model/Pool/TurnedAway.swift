// SPDX-License-Identifier: Apache-2.0

/// Pods that were recently refused an address and will ask again: kubelet creates another sandbox 10 to 15 s after a
/// failed one. Until then they count as demand, so that growth continues for them and nothing is unassigned.
struct TurnedAway: Sendable {
  /// A little longer than kubelet takes.
  static let memory = Duration.seconds(20)
  /// The maximum number of pods kept.
  static let limit = 1024

  private var until: [PodName: PoolInstant] = [:]
  /// None of them ends earlier.
  private var earliest: PoolInstant?

  var isEmpty: Bool { until.isEmpty }
  var count: Int { until.count }
  /// When all of them expire; nil if there is none.
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

  /// Removes those that did not come back in time.
  mutating func expire(_ now: PoolInstant) {
    guard let earliest, earliest <= now else { return }
    until = until.filter { $0.value > now }
    self.earliest = until.values.min()
  }
}

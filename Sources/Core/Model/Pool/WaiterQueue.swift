// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// ADDs waiting for an address, in the order in which their attachments first asked.
///
/// Requests for the same attachment are grouped: they need one address and all get the same answer.
struct WaiterQueue: Sendable {
  struct Waiter: Sendable {
    let request: AddRequest
    let since: PoolInstant
  }

  private(set) var keys: Deque<AttachmentKey> = []
  private var waiters: [AttachmentKey: [Waiter]] = [:]
  private var keyOf: [WaiterID: AttachmentKey] = [:]
  /// No waiter's deadline is earlier.
  private(set) var earliestDeadline: PoolInstant?

  var isEmpty: Bool { keys.isEmpty }
  /// Attachments that wait: the number of addresses needed.
  var count: Int { keys.count }
  /// Requests that wait.
  var requests: Int { keyOf.count }

  mutating func append(_ request: AddRequest, now: PoolInstant) {
    if waiters[request.key] == nil { keys.append(request.key) }
    waiters[request.key, default: []].append(Waiter(request: request, since: now))
    keyOf[request.waiter] = request.key
    earliestDeadline = min(earliestDeadline ?? request.deadline, request.deadline)
  }

  func first(of key: AttachmentKey) -> Waiter? { waiters[key]?.first }

  /// Removes an attachment with all its waiters.
  mutating func remove(_ key: AttachmentKey) -> [Waiter] {
    guard let removed = waiters.removeValue(forKey: key) else { return [] }
    for waiter in removed { keyOf[waiter.request.waiter] = nil }
    if keys.first == key { keys.removeFirst() } else { keys.removeAll { $0 == key } }
    if keys.isEmpty { earliestDeadline = nil }
    return removed
  }

  /// Removes one waiter; nil if it is not waiting.
  mutating func remove(_ id: WaiterID) -> Waiter? {
    guard let key = keyOf.removeValue(forKey: id),
      let index = waiters[key]?.firstIndex(where: { $0.request.waiter == id }),
      let waiter = waiters[key]?.remove(at: index)
    else { return nil }
    if waiters[key]?.isEmpty == true { _ = remove(key) }
    return waiter
  }

  /// Removes every waiter whose deadline has passed.
  mutating func removeExpired(_ now: PoolInstant) -> [Waiter] {
    guard let earliestDeadline, earliestDeadline <= now else { return [] }
    var expired: [Waiter] = []
    var next: PoolInstant?
    for key in Array(keys) {
      for waiter in waiters[key] ?? [] {
        if waiter.request.deadline <= now {
          expired.append(waiter)
        } else {
          next = min(next ?? waiter.request.deadline, waiter.request.deadline)
        }
      }
    }
    for waiter in expired { _ = remove(waiter.request.waiter) }
    self.earliestDeadline = next
    return expired
  }

  /// The latest deadline among the waiters of one attachment.
  func latestDeadline(of key: AttachmentKey) -> PoolInstant? {
    waiters[key]?.map(\.request.deadline).max()
  }
}

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

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

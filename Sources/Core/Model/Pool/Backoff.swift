// SPDX-License-Identifier: Apache-2.0

/// When one class of calls may be retried after failures.
///
/// The wait doubles with each consecutive failure. Random jitter removes up to half of it, so that nodes that failed
/// together do not retry together. Calls that no pod waits for wait twice as long. A success subtracts two failures.
///
/// Throttling has its own rule. EC2 throttles the whole account, so the rule must suit a single node as well as one of
/// five hundred nodes throttled at the same moment. The wait grows by half each time, up to ten times the first:
/// shorter than an ADD's timeout, so that the pod still waits when its address arrives. After that the wait grows with
/// the time since the first throttled call: a longer time means more competing nodes, so each of them asks less often.
/// Work that no pod waits for (warm targets, tidying) pauses for minutes, to let pods of other nodes go first.
/// docs/scale.md has the results.
struct Backoff: Sendable {
  /// Consecutive failures, minus two for each success.
  private(set) var failures = 0
  private(set) var urgentAt: PoolInstant?
  private(set) var patientAt: PoolInstant?
  private(set) var fault: ActionFailure.Fault?
  /// EC2's own words for it.
  private(set) var words = ""
  /// When the first of these failures was.
  private var since: PoolInstant?
  private var failedAt: PoolInstant?

  /// Under throttling the wait stays below this multiple of the shortest wait until the limit …
  static let early: Int64 = 10
  /// … is less than this fraction of the time since the first failure.
  static let part: Int64 = 8
  /// Work that no pod waits for pauses this long after throttling, and up to twice as long.
  static let calm = Duration.seconds(120)
  /// Or this multiple of the wait for work that pods wait for, if that is longer.
  static let calmFactor: Int64 = 8

  /// - Parameter asked: when the call that succeeded was made. A call made before the last failure proves nothing,
  ///   except under throttling: then EC2 accepts calls again.
  mutating func succeeded(asked: PoolInstant) {
    if let failedAt, asked < failedAt, let fault {
      guard case .throttled = fault else { return }
    }
    failures = max(failures - 2, 0)
    if failures == 0 { since = nil }
    urgentAt = nil
    fault = nil
  }

  mutating func failed(
    _ fault: ActionFailure.Fault, words: String = "", range: ClosedRange<Duration>, now: PoolInstant,
    random: inout SplitMix64
  ) {
    // An old failure says nothing about the present.
    if let failedAt, now > failedAt + range.upperBound + range.upperBound {
      failures = 0
      since = nil
    }
    // Calls that went out together and failed together are one failure.
    if !isHolding(now, urgent: true) { failures = min(failures + 1, 30) }
    let first = since ?? now
    since = first
    var isThrottled = false
    if case .throttled = fault { isThrottled = true }
    let full = Backoff.longestWait(failures, range, isThrottled ? (now - first).saturatedNanoseconds : nil)
    let wait = full / 2 + Int64.random(in: 0...max(full / 2, 1), using: &random)
    failedAt = now
    urgentAt = now + .nanoseconds(wait)
    var patience = wait * 2
    if isThrottled {
      let calm = max(Backoff.calm.saturatedNanoseconds, full * Backoff.calmFactor)
      patience = calm + Int64.random(in: 0...calm, using: &random)
    }
    patientAt = now + .nanoseconds(patience)
    self.fault = fault
    self.words = words
  }

  /// The longest wait after this number of consecutive failures, in nanoseconds.
  ///
  /// - Parameter throttled: the time since the first throttled call, in nanoseconds; nil if the failure is not
  ///   throttling.
  private static func longestWait(_ failures: Int, _ range: ClosedRange<Duration>, _ throttled: Int64?) -> Int64 {
    let shortest = range.lowerBound.saturatedNanoseconds
    var longest = range.upperBound.saturatedNanoseconds
    if let throttled { longest = min(max(shortest * early, throttled / part), longest) }
    var wait = shortest
    for _ in 1..<max(failures, 1) where wait < longest { wait += throttled == nil ? wait : wait / 2 }
    return min(wait, longest)
  }

  /// When the next try is due; nil if nothing delays it.
  func dueAt(urgent: Bool) -> PoolInstant? { urgent ? urgentAt : patientAt }

  func isHolding(_ now: PoolInstant, urgent: Bool) -> Bool {
    guard let due = dueAt(urgent: urgent) else { return false }
    return now < due
  }
}

/// Calls that are delayed together: EC2 throttles by action.
enum ActionClass: Int, Sendable, CaseIterable {
  case attach, assign, unassign, free, wire, list
}

// SPDX-License-Identifier: Apache-2.0

/// When one class of calls may be tried again after failures.
///
/// The wait doubles with each failure in a row, of which a random half is taken off, so that nodes that failed together
/// do not return together; what no pod waits for stands back twice as long. A success takes two failures off.
///
/// Throttling has a rule of its own. EC2 refuses for the rate of a whole account, so it must do for a node alone and for
/// one of five hundred that were refused at the same moment. The wait grows by half each time, soon to ten times the
/// first: short of the time that a pod waits, so that the pod is still there when its address comes. Then it grows with
/// the time since the first refusal: the longer that is, the more others there must be, and the seldomer all of them
/// ask, while the last is served one wait after the crowd is through. What no pod waits for (warm targets, tidying)
/// stands back for minutes: behind the pods of other nodes, of which this node knows only that EC2 refuses calls.
/// docs/scale.md has what came of it.
struct Backoff: Sendable {
  /// Failures in a row, less what successes took off.
  private(set) var failures = 0
  private(set) var urgentAt: PoolInstant?
  private(set) var patientAt: PoolInstant?
  private(set) var fault: ActionFailure.Fault?
  /// EC2's own words for it.
  private(set) var words = ""
  /// When the first of them was.
  private var since: PoolInstant?
  private var failedAt: PoolInstant?

  /// Under throttling the wait stays below that many times the shortest one until so many of them …
  static let early: Int64 = 10
  /// … are less than this part of the time since the first failure.
  static let part: Int64 = 8
  /// What no pod waits for is left alone that long after EC2 refused a call for its rate, and up to as long again.
  static let calm = Duration.seconds(120)
  /// Or for so many times the wait of what a pod waits for, if that is longer.
  static let calmFactor: Int64 = 8

  /// - Parameter asked: when the call that succeeded was made. One made before the last failure says nothing about that,
  ///   unless EC2 refuses for its rate alone: then it has calls to give away again.
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
    // Long ago says nothing about now.
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

  /// The longest wait after so many failures in a row, in nanoseconds.
  ///
  /// - Parameter throttled: the time since the first of them, in nanoseconds; nil where it is not for the rate.
  private static func longestWait(_ failures: Int, _ range: ClosedRange<Duration>, _ throttled: Int64?) -> Int64 {
    let shortest = range.lowerBound.saturatedNanoseconds
    var longest = range.upperBound.saturatedNanoseconds
    if let throttled { longest = min(max(shortest * early, throttled / part), longest) }
    var wait = shortest
    for _ in 1..<max(failures, 1) where wait < longest { wait += throttled == nil ? wait : wait / 2 }
    return min(wait, longest)
  }

  /// When the next try is due, nil where nothing holds it back.
  func dueAt(urgent: Bool) -> PoolInstant? { urgent ? urgentAt : patientAt }

  func isHolding(_ now: PoolInstant, urgent: Bool) -> Bool {
    guard let due = dueAt(urgent: urgent) else { return false }
    return now < due
  }
}

/// Calls that are held back together: EC2 refuses by call.
enum ActionClass: Int, Sendable, CaseIterable {
  case attach, assign, unassign, free, wire, list
}

// SPDX-License-Identifier: Apache-2.0

/// When one class of calls may be tried again after failures.
///
/// The wait doubles with each failure in a row, of which a random half is taken off, so that the nodes of a cluster do
/// not return together. What no pod waits for stands back twice as long as what a pod waits for.
struct Backoff: Sendable {
  private(set) var failures = 0
  private(set) var urgentAt: PoolInstant?
  private(set) var patientAt: PoolInstant?
  private(set) var fault: ActionFailure.Fault?

  mutating func succeeded() { self = Backoff() }

  mutating func failed(
    _ fault: ActionFailure.Fault, range: ClosedRange<Duration>, now: PoolInstant, random: inout SplitMix64
  ) {
    failures = min(failures + 1, 30)
    let longest = range.upperBound.saturatedNanoseconds
    let shortest = range.lowerBound.saturatedNanoseconds
    let full = shortest > longest >> Int64(failures - 1) ? longest : shortest << Int64(failures - 1)
    let wait = full / 2 + Int64.random(in: 0...max(full / 2, 1), using: &random)
    urgentAt = now + .nanoseconds(wait)
    patientAt = now + .nanoseconds(wait) + .nanoseconds(wait)
    self.fault = fault
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

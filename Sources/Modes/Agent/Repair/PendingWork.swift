// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCLinux

/// Pending checks: all changes that arrive during a check cause one more check. While kernel changes are being
/// collected, no check starts: it would find the differences without knowing when and by whom they were made.
final class PendingWork: Sendable {
  struct Work: Sendable {
    var scope = RepairScope.nothing
    var origin = NodeChanges.Origin()
    /// When the first kernel notification came; nil if none did.
    var noticed: ContinuousClock.Instant?
  }

  private struct State {
    var work = Work()
    /// Collections that have begun, and how many of them have ended.
    var begun = 0
    var ended = 0
    /// A task waits for the end of one.
    var isAwaited = false
  }

  private let state = Mutex(State())
  private let bell = Bell()

  /// The kernel has reported a change; it will be added before `gathered`.
  func gathers() { state.withLock { $0.begun += 1 } }

  /// The collection is complete.
  func gathered() {
    let isAwaited = state.withLock {
      $0.ended += 1
      return $0.isAwaited
    }
    if isAwaited { bell.ring() }
  }

  /// - Parameter noticed: when the kernel reported it.
  func add(
    _ scope: RepairScope, _ origin: NodeChanges.Origin = NodeChanges.Origin(),
    noticed: ContinuousClock.Instant? = nil
  ) {
    state.withLock {
      $0.work.scope.formUnion(scope)
      $0.work.origin.merge(origin)
      $0.work.noticed = $0.work.noticed ?? noticed
    }
    bell.ring()
  }

  /// Waits for work and running collections, and takes all of it.
  ///
  /// - Returns: nil when the task was cancelled.
  func next() async -> Work? {
    guard await bell.wait() else { return nil }
    // Later collections belong to the next check: endless changes do not delay this one.
    let begun = state.withLock {
      $0.isAwaited = true
      return $0.begun
    }
    while state.withLock({ $0.ended < begun }) {
      guard await bell.wait() else { return nil }
    }
    return state.withLock { state in
      defer { state.work = Work() }
      state.isAwaited = false
      return state.work
    }
  }
}

/// State from one round to the next.
struct RepairState: Sendable {
  var pacing = RepairPacing()
  var streak = FailureStreak()
  private var held = RepairScope.nothing
  private var due: ContinuousClock.Instant?
  /// The scheduled wake-up.
  private var wake: ContinuousClock.Instant?

  /// Something in the scope may be repaired again at this time.
  mutating func hold(_ scope: RepairScope, until instant: ContinuousClock.Instant) {
    held.formUnion(scope)
    due = min(due ?? instant, instant)
  }

  /// What may be repaired now.
  mutating func takeHeld(at now: ContinuousClock.Instant) -> RepairScope {
    if let wake, wake <= now { self.wake = nil }
    guard let due, due <= now else { return .nothing }
    defer {
      held = .nothing
      self.due = nil
    }
    return held
  }

  /// When to check again, unless an earlier wake-up is scheduled.
  mutating func nextWake() -> ContinuousClock.Instant? {
    guard let due, wake.map({ due < $0 }) ?? true else { return nil }
    wake = due
    return due
  }
}

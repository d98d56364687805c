// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCLinux

/// What waits to be looked at: everything that comes while a look is under way is one more look. While changes gather that
/// the kernel told of, no look begins: it would find what they did without knowing when and by whom.
final class PendingWork: Sendable {
  struct Work: Sendable {
    var scope = RepairScope.nothing
    var origin = NodeChanges.Origin()
    /// When the first of the kernel's notices came; nil where none did.
    var noticed: ContinuousClock.Instant?
  }

  private struct State {
    var work = Work()
    /// Gatherings that have begun, and those among them that have ended.
    var begun = 0
    var ended = 0
    /// Somebody waits for the end of one.
    var isAwaited = false
  }

  private let state = Mutex(State())
  private let bell = Bell()

  /// The kernel has told of something; what it is will be added before `gathered`.
  func gathers() { state.withLock { $0.begun += 1 } }

  /// Nothing of it is missing any more.
  func gathered() {
    let isAwaited = state.withLock {
      $0.ended += 1
      return $0.isAwaited
    }
    if isAwaited { bell.ring() }
  }

  /// - Parameter noticed: when the kernel told of it.
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

  /// Waits for work, and for what is just gathering, and takes all there is.
  ///
  /// - Returns: nil when the task was cancelled.
  func next() async -> Work? {
    guard await bell.wait() else { return nil }
    // What begins to gather from here on is the next look's: changes without end hold none up.
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

/// What one look leaves for the next.
struct RepairState: Sendable {
  var pacing = RepairPacing()
  var streak = FailureStreak()
  private var held = RepairScope.nothing
  private var due: ContinuousClock.Instant?
  /// The wake-up that is under way.
  private var wake: ContinuousClock.Instant?

  /// Something within the scope may be mended again at that time.
  mutating func hold(_ scope: RepairScope, until instant: ContinuousClock.Instant) {
    held.formUnion(scope)
    due = min(due ?? instant, instant)
  }

  /// What may be mended now.
  mutating func takeHeld(at now: ContinuousClock.Instant) -> RepairScope {
    if let wake, wake <= now { self.wake = nil }
    guard let due, due <= now else { return .nothing }
    defer {
      held = .nothing
      self.due = nil
    }
    return held
  }

  /// When to look again, unless a wake-up as early is under way.
  mutating func nextWake() -> ContinuousClock.Instant? {
    guard let due, wake.map({ due < $0 }) ?? true else { return nil }
    wake = due
    return due
  }
}

// SPDX-License-Identifier: Apache-2.0
//
//             listed                    opened
//   list ───────────────▶ watch(version) ─────▶ (events move the version on)
//    ▲ ▲                        │
//    │ │ 410, or three watches  │ ended
//    │ └─ that brought nothing ─┤
//    └── wait ◀─────────────────┘ failed, or ended too soon

internal import VPCModel
internal import VPCTransport

/// The state machine of a list-and-watch. A value: it receives the result of each step.
struct WatchState: Sendable {
  enum Step: Sendable, Hashable {
    case list(isFresh: Bool)
    case watch(version: String)
  }

  /// How a watch came to its end.
  enum End: Sendable {
    /// By the server, as watches do.
    case closed
    /// It was interrupted, or returned unreadable data.
    case broken
    /// The version is too old.
    case gone
  }

  /// After consecutive failures: 1 s, doubled up to this, with jitter that removes up to half.
  static let waits = RetryPolicy(attempts: Int.max, base: .seconds(1), cap: .seconds(30))
  /// A refusal (403, 404) usually lasts.
  static let longWaits = RetryPolicy(attempts: Int.max, base: .seconds(5), cap: .seconds(120))
  /// A watch that lasted this long counts as successful.
  static let sound = Duration.seconds(5)
  /// After this number of consecutive failed watches without events, the list is read again.
  static let patience = 3

  private(set) var step: Step
  private(set) var failures = 0
  private var barren = 0

  init(isFirstFresh: Bool = false) { step = .list(isFresh: isFirstFresh) }

  /// The list was read: the server is reachable again.
  mutating func listed(version: String) {
    step = .watch(version: version)
    // A server whose versions expire at once must not be listed in a tight loop: the watch clears the count.
    barren = 0
  }

  /// - Returns: how long to wait before the list is tried again.
  mutating func listFailed(_ error: KubeError, random: Double) -> Duration {
    // A list that the server aborted with 410 restarts without a version.
    if error.code == .gone { step = .list(isFresh: true) }
    return wait(error, random: random)
  }

  /// An event arrived: the next watch continues from here.
  mutating func moved(to version: String) {
    failures = 0
    barren = 0
    if !version.isEmpty { step = .watch(version: version) }
  }

  /// - Parameter lasted: from its opening to its end.
  /// - Returns: how long to wait before the next step.
  mutating func ended(_ end: End, lasted: Duration, random: Double) -> Duration {
    if lasted >= WatchState.sound { failures = 0 }
    switch end {
    case .gone:
      step = .list(isFresh: true)
      failures += 1
      return failures == 1 ? .zero : delay(WatchState.waits, random)
    case .closed where lasted >= WatchState.sound:
      barren = 0
      return .zero
    case .closed, .broken:
      failures += 1
      barren += 1
      if barren >= WatchState.patience { step = .list(isFresh: true) }
      return delay(WatchState.waits, random)
    }
  }

  /// The watch could not be opened.
  mutating func openFailed(_ error: KubeError, random: Double) -> Duration {
    if error.code == .gone { return ended(.gone, lasted: .zero, random: random) }
    return wait(error, random: random)
  }

  private mutating func wait(_ error: KubeError, random: Double) -> Duration {
    failures += 1
    let isRefusal = error.code == .forbidden || error.code == .notFound || error.code == .rejected
    return max(delay(isRefusal ? WatchState.longWaits : WatchState.waits, random), error.retryAfter ?? .zero)
  }

  private func delay(_ policy: RetryPolicy, _ random: Double) -> Duration {
    policy.bound(after: failures) * (0.5 + random / 2)
  }
}

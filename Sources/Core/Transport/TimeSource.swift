// SPDX-License-Identifier: Apache-2.0

/// The source of time, waits and randomness, so that tests can control them.
package struct TimeSource: Sendable {
  /// The monotonic time now. Only differences mean anything.
  package var now: @Sendable () -> ContinuousClock.Instant
  /// Waits; throws `CancellationError` when the task is cancelled.
  package var sleep: @Sendable (Duration) async throws -> Void
  /// A number of 0 ..< 1, for jitter.
  package var random: @Sendable () -> Double

  package init(
    now: @escaping @Sendable () -> ContinuousClock.Instant,
    sleep: @escaping @Sendable (Duration) async throws -> Void,
    random: @escaping @Sendable () -> Double
  ) {
    self.now = now
    self.sleep = sleep
    self.random = random
  }

  /// The machine's clock and random numbers.
  package static let system = TimeSource(
    now: { ContinuousClock.now },
    sleep: { try await ContinuousClock().sleep(for: $0) },
    random: { Double.random(in: 0..<1) })

  /// Within 15 % of `interval`, so that nodes which started together drift apart.
  package func jittered(_ interval: Duration) -> Duration { interval * (0.85 + 0.3 * random()) }
}

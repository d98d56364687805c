// SPDX-License-Identifier: Apache-2.0

/// How often and how long to try again: exponential growth with full jitter.
///
/// Source: "Exponential Backoff and Jitter", AWS Architecture Blog: a wait drawn from 0 … min(cap, base · 2ⁿ) spreads
/// callers that failed together best.
package struct RetryPolicy: Sendable, Hashable {
  /// All attempts, the first included; at least 1.
  package var attempts: Int
  /// The upper end of the first wait.
  package var base: Duration
  /// No wait is longer.
  package var cap: Duration

  package init(attempts: Int, base: Duration, cap: Duration) {
    self.attempts = max(1, attempts)
    self.base = base
    self.cap = cap
  }

  /// One attempt and no more.
  package static let never = RetryPolicy(attempts: 1, base: .zero, cap: .zero)

  /// The longest wait after the failed attempt `attempt` (1 is the first).
  package func bound(after attempt: Int) -> Duration {
    min(cap, base * (1 << min(max(attempt - 1, 0), 20)))
  }

  /// The wait after the failed attempt `attempt`, for a `random` number of 0 ..< 1.
  package func delay(after attempt: Int, random: Double) -> Duration { bound(after: attempt) * random }

  /// Runs `operation` until it succeeds, its error is not retryable, the attempts are used up, or the next wait would
  /// end after `deadline`.
  ///
  /// - Parameter operation: gets the number of the attempt, from 1.
  /// - Throws: the last attempt's error; also if the task was cancelled while waiting.
  package func run<Value, Failure: Error>(
    time: TimeSource, deadline: ContinuousClock.Instant? = nil, retryable: (Failure) -> Bool,
    isolation: isolated (any Actor)? = #isolation, operation: (Int) async throws(Failure) -> Value
  ) async throws(Failure) -> Value {
    var attempt = 1
    while true {
      let failure: Failure
      do {
        return try await operation(attempt)
      } catch {
        failure = error
      }
      guard attempt < attempts, retryable(failure), !Task.isCancelled else { throw failure }
      let wait = delay(after: attempt, random: time.random())
      if let deadline, time.now().advanced(by: wait) >= deadline { throw failure }
      // Cancelled while waiting: the last failure is more informative.
      guard (try? await time.sleep(wait)) != nil else { throw failure }
      attempt += 1
    }
  }
}

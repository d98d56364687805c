// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The standard retryer of the AWS SDK for Go v2, one for each process. It makes three attempts, waits 0 … 2ⁿ s after
/// the nth, and has a bucket of 500 tokens: a retry takes 5, and a success returns what its retry took, or 1.
package final class SDKClient {
  package static let attempts = 3
  package static let capacity = 500
  package static let retryCost = 5

  private let clock: VirtualClock
  private var random: SplitMix64
  private let hasTokens: Bool
  package private(set) var tokens = SDKClient.capacity

  /// - Parameter hasTokens: false disables the token bucket, so that every call gets its three attempts.
  package init(clock: VirtualClock, seed: UInt64, hasTokens: Bool = true) {
    self.clock = clock
    random = SplitMix64(seed: seed)
    self.hasTokens = hasTokens
  }

  /// Makes one call; `answer` gets the last attempt's result.
  package func call<Value>(
    _ attempt: @escaping (@escaping SimulatedEC2.Answer<Value>) -> Void,
    then answer: @escaping SimulatedEC2.Answer<Value>
  ) {
    make(attempt, 1, paid: 0, answer)
  }

  private func make<Value>(
    _ attempt: @escaping (@escaping SimulatedEC2.Answer<Value>) -> Void, _ number: Int, paid: Int,
    _ answer: @escaping SimulatedEC2.Answer<Value>
  ) {
    attempt { result in
      guard case .failure(.throttled) = result else {
        if case .success = result { self.tokens = min(SDKClient.capacity, self.tokens + max(paid, 1)) }
        return answer(result)
      }
      guard number < SDKClient.attempts, !self.hasTokens || self.tokens >= SDKClient.retryCost else {
        return answer(result)
      }
      if self.hasTokens { self.tokens -= SDKClient.retryCost }
      let wait = Duration.seconds(1 << number) * Double.random(in: 0..<1, using: &self.random)
      self.clock.after(wait) { self.make(attempt, number + 1, paid: SDKClient.retryCost, answer) }
    }
  }
}

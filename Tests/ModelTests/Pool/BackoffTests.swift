// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VPCModel

/// How long the pool makes no calls of a class after a failure.
@Suite struct BackoffTests {
  static let range: ClosedRange<Duration> = .seconds(1) ... .seconds(60)
  static let throttled = ActionFailure.Fault.throttled(call: "CreateNetworkInterface")

  /// Fails again as soon as each wait is over.
  ///
  /// - Returns: the waits for an urgent call, one that a pod waits for, in seconds.
  static func waits(_ fault: ActionFailure.Fault, _ count: Int, seed: UInt64) -> [Double] {
    var backoff = Backoff()
    var random = SplitMix64(seed: seed)
    var now = PoolInstant(sinceBoot: .seconds(5))
    return (0..<count).map { _ in
      backoff.failed(fault, range: range, now: now, random: &random)
      let due = backoff.dueAt(urgent: true) ?? now
      defer { now = due }
      return Double((due - now).saturatedNanoseconds) / 1e9
    }
  }

  @Test(arguments: 1...20 as ClosedRange<UInt64>) func throttledWaitsStayShortAndThenGrow(seed: UInt64) {
    let waits = Self.waits(Self.throttled, 60, seed: seed)
    #expect((0.5...1).contains(waits[0]))
    #expect((0.75...1.5).contains(waits[1]))
    var elapsed = 0.0
    for wait in waits {
      #expect(wait <= max(10, elapsed / 8) + 0.001, "a pod that waits 20 s must see the next try")
      elapsed += wait
    }
    // After ten minutes and more the node retries less and less often, but at least once a minute.
    #expect(waits.last.map { (20...60).contains($0) } == true)
  }

  @Test(arguments: 1...20 as ClosedRange<UInt64>) func otherWaitsDouble(seed: UInt64) {
    for (index, wait) in Self.waits(.other("it broke"), 12, seed: seed).enumerated() {
      let full = Double(min(1 << index, 60))
      #expect((full / 2...full).contains(wait))
    }
  }

  @Test func warmTargetsStandBackForMinutes() {
    var backoff = Backoff()
    var random = SplitMix64(seed: 3)
    let now = PoolInstant(sinceBoot: .seconds(5))
    backoff.failed(Self.throttled, range: Self.range, now: now, random: &random)
    #expect(!backoff.isHolding(now + .seconds(1), urgent: true))
    #expect(backoff.isHolding(now + .seconds(119), urgent: false))
    #expect(!backoff.isHolding(now + .seconds(241), urgent: false))
    backoff.succeeded(asked: now)
    #expect(backoff.isHolding(now + .seconds(119), urgent: false), "the others still wait")
    #expect(!backoff.isHolding(now, urgent: true))
    var broken = Backoff()
    broken.failed(.other("it broke"), range: Self.range, now: now, random: &random)
    #expect(!broken.isHolding(now + .seconds(2), urgent: false))
  }

  @Test func successTakesTwoFailuresOff() {
    var backoff = Backoff()
    var random = SplitMix64(seed: 4)
    var now = PoolInstant(sinceBoot: .seconds(5))
    for _ in 0..<5 {
      backoff.failed(Self.throttled, range: Self.range, now: now, random: &random)
      now = backoff.dueAt(urgent: true) ?? now
    }
    backoff.succeeded(asked: now)
    #expect(backoff.failures == 3)
    backoff.failed(Self.throttled, range: Self.range, now: now, random: &random)
    #expect(backoff.failures == 4)
    for _ in 0..<2 { backoff.succeeded(asked: now) }
    #expect(backoff.failures == 0)
  }

  /// A success resets nothing if the call was sent before the failure. After a throttle it does: EC2 accepts calls
  /// again.
  @Test func anEarlierCallsSuccessResetsNothing() {
    var random = SplitMix64(seed: 6)
    let now = PoolInstant(sinceBoot: .seconds(5))
    for (fault, isReset) in [(Self.throttled, true), (.unauthorized(permission: "ec2:X"), false), (.other("x"), false)]
    {
      var backoff = Backoff()
      backoff.failed(fault, words: "no", range: Self.range, now: now, random: &random)
      backoff.succeeded(asked: now + .milliseconds(-1))
      #expect(backoff.isHolding(now, urgent: true) != isReset, "\(fault)")
      #expect((backoff.failures == 0) == isReset)
      #expect(backoff.words == "no")
      backoff.succeeded(asked: now + .milliseconds(1))
      #expect(!backoff.isHolding(now, urgent: true))
    }
  }

  @Test func callsThatFailTogetherAreOneFailure() {
    var backoff = Backoff()
    var random = SplitMix64(seed: 5)
    let now = PoolInstant(sinceBoot: .seconds(5))
    for _ in 0..<3 { backoff.failed(Self.throttled, range: Self.range, now: now, random: &random) }
    #expect(backoff.failures == 1)
    backoff.failed(Self.throttled, range: Self.range, now: now + .seconds(3600), random: &random)
    #expect(backoff.failures == 1, "an hour ago says nothing about now")
  }
}

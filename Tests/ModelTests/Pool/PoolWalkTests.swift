// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// A seeded random walk: pods come and go, calls fail in every way, addresses vanish, the agent restarts. `PoolRig`
/// checks every batch: no address is given out twice, in cooldown or without EC2's confirmation; each ENI has one
/// action at a time; no limit is exceeded; every waiter is answered once and in time; the sums are equal.
@Suite struct PoolWalkTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let settings: PoolSettings
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(name: "warm ENI", settings: PoolSettings(instanceENILimit: 4, slotsPerENI: 5, maxPods: 17)),
    Case(
      name: "warm ENI 0", settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 3, maxPods: 11, warmENITarget: 0)),
    Case(
      name: "warm IP", settings: PoolSettings(instanceENILimit: 4, slotsPerENI: 6, warmIPTarget: 2, minimumIPTarget: 4)),
    Case(name: "minimum alone", settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 9, minimumIPTarget: 5)),
    Case(
      name: "prefixes",
      settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 3, warmPrefixTarget: 1, usesPrefixes: true)),
    Case(
      name: "prefixes, warm IP",
      settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 2, warmIPTarget: 5, usesPrefixes: true)),
    Case(
      name: "MAX_ENI, no cooldown",
      settings: PoolSettings(instanceENILimit: 8, slotsPerENI: 3, maxENI: 2, warmIPTarget: 1, cooldown: .zero)),
    Case(
      name: "custom networking",
      settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 4, usesCustomNetworking: true)),
    Case(name: "IPv6", settings: PoolIPv6Tests.settings),
  ]

  static let seedsPerCase: UInt64 = 6

  @Test(arguments: cases, 1...seedsPerCase) func walk(_ walk: Case, seed: UInt64) {
    var random = SplitMix64(seed: seed)
    var rig = PoolRig(walk.settings, seed: seed)
    rig.freeAddresses = Int.random(in: 5...60, using: &random)
    rig.freePrefixes = Int.random(in: 0...8, using: &random)
    rig.latency = .milliseconds(Int.random(in: 1...4000, using: &random))
    rig.start()
    var pods: [String] = []
    for step in 0..<600 {
      if step % 20 == 0 {
        rig.fault = Self.fault(seed: random.next())
        rig.listingLag =
          Int.random(in: 0..<4, using: &random) > 0 ? .zero : .seconds(Int.random(in: 1...30, using: &random))
      }
      Self.act(&rig, &pods, step, &random)
      guard rig.violations.isEmpty else { break }
    }
    rig.fault = { _ in nil }
    rig.listingLag = .zero
    rig.feed(.schedulable(true))
    rig.settle()
    rig.advance(.seconds(1200))
    Self.expectQuiet(&rig, "with pods, seed \(seed)")
    for pod in pods { rig.delete(pod) }
    rig.advance(.seconds(1200))
    Self.expectQuiet(&rig, "without pods, seed \(seed)")
    #expect(rig.violations == [], "seed \(seed)")
    #expect(rig.ledBesidesTheBook() == [], "seed \(seed)")
    #expect(rig.pool.counts.assigned == 0)
    #expect(rig.pool.counts.cooling == 0)
    #expect(rig.pool.counts.stray == 0)
  }

  /// While the pods stay the same, the pool makes no further call, unless it cannot reach a target: then it retries
  /// forever, and this may be the moment of a retry.
  private static func expectQuiet(_ rig: inout PoolRig, _ when: String) {
    // The pool asks EC2 about what pods use and EC2 does not show, as long as those pods run.
    guard rig.pool.blockedCause(now: rig.now) == nil, rig.pool.fallbackSubnetIDs.isEmpty, !rig.pool.isInquiring,
      rig.pool.settings.usesPrefixes ? rig.freePrefixes > 0 : rig.freeAddresses > 0
    else { return }
    let calls = rig.calls
    for _ in 0..<30 {
      rig.advance(.seconds(60))
      rig.observe(isAuthoritative: false)
    }
    #expect(rig.calls == calls, "\(when)")
  }

  private static func act(_ rig: inout PoolRig, _ pods: inout [String], _ step: Int, _ random: inout SplitMix64) {
    switch Int.random(in: 0..<100, using: &random) {
    case 0..<35:
      pods.append("pod-\(step)")
      rig.add("pod-\(step)", timeout: .seconds(Int.random(in: 1...40, using: &random)))
    case 35..<60:
      guard !pods.isEmpty else { return }
      rig.delete(pods.remove(at: Int.random(in: 0..<pods.count, using: &random)))
    case 60..<64:
      guard let pod = pods.randomElement(using: &random) else { return }
      rig.add(pod)
    case 64..<68:
      guard let waiter = rig.waiting.keys.min(by: { $0.number < $1.number }) else { return }
      rig.cancel(waiter)
    case 68..<70:
      rig.failsCheckpoint = true
      rig.add("unwritten-\(step)", timeout: .seconds(5))
      rig.advance(.seconds(6))
      rig.failsCheckpoint = false
      rig.delete("unwritten-\(step)")
    case 70: rig.feed(.schedulable(false))
    case 71..<74: rig.feed(.schedulable(true))
    case 74: rig.feed(.maxPods(Int.random(in: 3...40, using: &random)))
    case 75: rig.observe(lag: .seconds(Int.random(in: 0...60, using: &random)))
    case 76: rig.observe(isAuthoritative: true)
    case 77:
      let lag = Bool.random(using: &random) ? Duration.zero : .seconds(Int.random(in: 1...30, using: &random))
      rig.restart(seed: random.next(), lag: lag, misses: Int.random(in: 0..<3, using: &random) == 0)
    case 78:
      // Somebody else takes it, and the pool is told before anything else happens. The pool regards a listing as old if
      // it lacks what EC2 assigned less than a minute ago.
      let old = rig.enis.values.flatMap(\.cidrs).filter { rig.givenAt[$0].map { $0 + .seconds(61) < rig.now } ?? true }
      guard rig.running.isEmpty, let taken = old.sorted().randomElement(using: &random) else { return }
      rig.removeAtEC2(taken)
      rig.observe(isAuthoritative: true)
    default: rig.advance(.milliseconds(Int.random(in: 1...9000, using: &random)))
    }
  }

  private static func fault(seed: UInt64) -> (PoolAction) -> PoolRig.Fault? {
    let faults: [ActionFailure.Fault] = [
      .throttled(call: "X"), .unauthorized(permission: "ec2:X"), .subnetFull, .noFreePrefix, .addressLimit,
      .attachmentLimit, .deviceTaken, .other("it broke"),
    ]
    return { action in
      var random = SplitMix64(seed: seed ^ (action.id?.number ?? 0))
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<2: return .init(failure: ActionFailure(faults.randomElement(using: &random) ?? .subnetFull))
      case 2:
        return .init(failure: ActionFailure(.other("timeout"), mayBeDone: true), isDone: Bool.random(using: &random))
      default: return nil
      }
    }
  }

  @Test func sameSeedSameRun() {
    let run = {
      var rig = PoolRig(Self.cases[2].settings, seed: 7)
      rig.fault = Self.fault(seed: 3)
      rig.start()
      for pod in 0..<20 {
        rig.add("pod-\(pod)")
        rig.advance(.milliseconds(700))
      }
      rig.settle()
      return rig.answers
    }
    #expect(run() == run())
  }
}

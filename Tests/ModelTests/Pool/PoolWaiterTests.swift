// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// ADD and DEL: which pod gets an address and when, which is refused and why.
@Suite struct PoolWaiterTests {
  /// An m5.large: 3 ENIs with 9 addresses each.
  static let m5large = PoolSettings(instanceENILimit: 3, slotsPerENI: 9, maxPods: 29)

  @Test func freeAddressIsGivenAtOnce() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    rig.settle()
    let waiter = rig.add("a")
    #expect(rig.address(waiter) == IPAddress("10.0.0.16"))
    #expect(rig.persists == 1)
    #expect(rig.pool.assignment(of: PoolRig.key("a"))?.routeTable == .main)
    #expect(rig.violations == [])
  }

  @Test func sameKeySameAddress() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    let first = rig.add("a")
    let joined = rig.add("a")
    rig.settle()
    let later = rig.add("a")
    #expect(rig.address(first) != nil)
    #expect(rig.address(first) == rig.address(joined))
    #expect(rig.address(first) == rig.address(later))
    #expect(rig.persists == 1)
    #expect(rig.violations == [])
  }

  @Test func waitersAreServedInOrder() {
    var rig = PoolRig(Self.m5large)
    rig.freeAddresses = 3
    rig.start()
    let waiters = (0..<6).map { rig.add("pod-\($0)", timeout: .seconds(20 + $0)) }
    rig.settle()
    #expect(waiters.prefix(3).allSatisfy { rig.address($0) != nil })
    #expect(waiters.suffix(3).allSatisfy { rig.address($0) == nil })
    #expect(rig.violations == [])
  }

  /// Addresses arrive on three ENIs at different moments, one of them after a failure. Pods are served in the order in
  /// which they came.
  @Test func orderHoldsWhileSeveralENIsCome() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 4, slotsPerENI: 5, maxPods: 29))
    var failures = 0
    rig.fault = { action in
      guard case .attachENI = action, failures < 2 else { return nil }
      failures += 1
      return .init(failure: ActionFailure(.other("InternalError")))
    }
    rig.start()
    var waiters: [WaiterID] = []
    var steps = 0
    for round in 0..<200 {
      if round < 20 { waiters.append(rig.add("pod-\(round)", timeout: .seconds(60 - round))) }
      rig.advance(.milliseconds(50))
      let served = waiters.prefix { rig.address($0) != nil }
      #expect(served.count == waiters.count { rig.address($0) != nil }, "nobody overtakes")
      if !served.isEmpty && served.count < waiters.count { steps += 1 }
    }
    #expect(steps > 0 && failures == 2, "they were served in several steps")
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }

  @Test func coldBurstOfFiftyTakesFewCalls() {
    // m5.4xlarge with WARM_ENI_TARGET=1: 50 pods and the free addresses of one ENI need the addresses of three ENIs.
    var rig = PoolRig(PoolSettings(instanceENILimit: 8, slotsPerENI: 29, maxPods: 234))
    rig.start()
    let waiters = (0..<50).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.calls["assign"] == 1)
    #expect(rig.calls["attach"] == 1, "no pod waits for the warm ENI")
    rig.advance(.seconds(3))
    #expect(rig.calls["attach"] == 2)
    #expect(rig.calls["list"] == nil)
    #expect(rig.violations == [])
  }

  @Test func burstWithWarmIPTargetFailsNobody() {
    // amazon-vpc-cni-k8s lets 5 of these 8 fail.
    var settings = Self.m5large
    settings.warmIPTarget = 3
    var rig = PoolRig(settings)
    rig.start()
    rig.settle()
    let waiters = (0..<8).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect((rig.calls["assign"] ?? 0) <= 4)
    #expect(rig.calls["attach", default: 0] <= 1)
    #expect(rig.violations == [])
  }

  @Test func fullNodeRefusesAtOnceNamingTheLimit() {
    var settings = Self.m5large
    settings.maxPods = 110
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<27 { rig.add("pod-\(pod)") }
    rig.settle()
    let before = rig.now
    let refused = rig.add("one more")
    #expect(rig.now == before)
    #expect(rig.cause(refused) == .eniLimitReached(attached: 3, limit: 3))
    #expect(rig.violations == [])
  }

  /// More pods at once than the limit allows: those beyond it are refused at once, while the others wait for EC2.
  @Test func waitersBeyondThePodLimitHearOfIt() {
    var settings = Self.m5large
    settings.maxPods = 4
    var rig = PoolRig(settings)
    rig.start()
    let waiters = (0..<6).map { rig.add("pod-\($0)") }
    #expect(waiters.map(rig.cause) == [nil, nil, nil, nil, .maxPodsReached(4), .maxPodsReached(4)])
    rig.settle()
    #expect(waiters.prefix(4).allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }

  @Test func cooldownIsWaitedForWhenNothingElseIsLeft() {
    var settings = Self.m5large
    settings.maxENI = 1
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<9 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.delete("pod-3")
    rig.advance(.seconds(15))
    let before = rig.now
    let waiter = rig.add("new")
    rig.settle()
    #expect(rig.address(waiter) != nil)
    #expect(rig.now - before == .seconds(15))
    rig.delete("pod-4")
    let late = rig.add("too short a wait", timeout: .seconds(20))
    #expect(rig.cause(late) == .onlyCooling(count: 1, freeIn: .seconds(30)))
    #expect(rig.violations == [])
  }

  /// IP_COOLDOWN_PERIOD=0: a waiter gets a released address at once, whatever else is being requested for it.
  @Test func withoutCooldownAWaiterGetsWhatComesBack() {
    var settings = PoolSettings(instanceENILimit: 2, slotsPerENI: 1, warmENITarget: 0)
    settings.cooldown = .zero
    var rig = PoolRig(settings)
    rig.start()
    let first = rig.add("first")
    rig.settle()
    rig.latency = .seconds(60)
    let second = rig.add("second")
    rig.advance(.seconds(1))
    #expect(rig.address(second) == nil, "its ENI is on the way")
    rig.delete("first")
    #expect(rig.address(second) != nil && rig.address(second) == rig.address(first))
    #expect(rig.violations == [])
  }

  @Test func deleteIsAnsweredAlways() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    rig.settle()
    rig.add("a")
    let known = rig.delete("a")
    let again = rig.delete("a")
    guard case .released(let assignment) = rig.released[known] else {
      Issue.record("not released")
      return
    }
    #expect(assignment.key == PoolRig.key("a"))
    #expect(rig.released[again] == .unknown)
    #expect(rig.violations == [])
  }

  @Test func deleteOfOneThatWaitsAnswersBoth() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    let waiter = rig.add("a")
    let delete = rig.delete("a")
    #expect(rig.cause(waiter) == .cancelled)
    #expect(rig.released[delete] == .unknown)
    rig.settle()
    #expect(rig.violations == [])
  }

  @Test func cancelledWaiterGetsNoAddress() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    let gone = rig.add("a")
    let stays = rig.add("b")
    rig.cancel(gone)
    rig.settle()
    rig.cancel(stays)
    #expect(rig.cause(gone) == .cancelled)
    #expect(rig.address(stays) != nil)
    #expect(rig.pool.assignment(of: PoolRig.key("a")) == nil)
    #expect(rig.violations == [])
  }

  @Test func deadlineEndsTheWaitWithTheReason() {
    var rig = PoolRig(Self.m5large)
    rig.latency = .seconds(60)
    rig.start()
    let waiter = rig.add("a", timeout: .seconds(20))
    rig.advance(.seconds(21))
    #expect(
      rig.cause(waiter)
        == .deadline(waited: .seconds(20), because: "EC2 has not answered yet: assign 9 addresses to eni-0, for 20 s"))
    #expect(rig.violations == [])
  }

  @Test func failedCheckpointTakesTheAddressBack() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    rig.settle()
    rig.failsCheckpoint = true
    let failed = rig.add("a")
    #expect(rig.cause(failed) == .checkpointNotWritten("no space"))
    #expect(rig.pool.counts.assigned == 0)
    rig.failsCheckpoint = false
    let retried = rig.add("a")
    #expect(rig.address(retried) != nil)
    #expect(rig.violations == [])
  }

  @Test(arguments: [
    (PoolEvent.shutdown, FailureCause.shuttingDown), (.schedulable(false), .nodeCordoned),
  ])
  func nothingGrowsThen(event: PoolEvent, cause: FailureCause) {
    var rig = PoolRig(Self.m5large)
    rig.freeAddresses = 0
    rig.start()
    rig.settle()
    let calls = rig.calls
    rig.feed(event)
    rig.freeAddresses = 100
    rig.advance(.seconds(200))
    let waiter = rig.add("a")
    #expect(rig.cause(waiter) == cause)
    #expect(rig.calls == calls)
    #expect(rig.violations == [])
  }

  @Test func shutdownAnswersWhoWaits() {
    var rig = PoolRig(Self.m5large)
    rig.start()
    let waiter = rig.add("a")
    rig.feed(.shutdown)
    #expect(rig.cause(waiter) == .shuttingDown)
    rig.settle()
    #expect(rig.violations == [])
  }

  @Test func provisioningOffNeverCalls() {
    var settings = Self.m5large
    settings.provisions = false
    var rig = PoolRig(settings)
    rig.start(primaryCIDRs: [IPPrefix("10.0.0.20/32"), IPPrefix("10.0.0.21/32")].compactMap { $0 })
    let waiters = (0..<3).map { rig.add("pod-\($0)") }
    rig.advance(.seconds(600))
    #expect(waiters.compactMap(rig.address).count == 2)
    #expect(rig.cause(waiters[2]) == .provisioningOff)
    #expect(rig.calls == [:])
    #expect(rig.violations == [])
  }

  @Test func beforeTheStartNobodyIsServed() {
    var rig = PoolRig(Self.m5large)
    let waiter = rig.add("a")
    #expect(rig.cause(waiter) == .notReady)
    let bad = rig.add("")
    guard case .badRequest = rig.cause(bad) else {
      Issue.record("an empty container id was accepted")
      return
    }
  }

  @Test func waitersAreBounded() {
    var settings = Self.m5large
    settings.timings.maximumWaiters = 10
    var rig = PoolRig(settings)
    rig.start()
    let waiters = (0..<11).map { rig.add("pod-\($0)") }
    #expect(rig.cause(waiters[10]) == .tooManyWaiting(10))
    rig.settle()
    #expect(rig.violations == [])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// What EC2 refuses, and how an answer that was lost is cleared up.
@Suite struct PoolFailureTests {
  static let m5large = PoolWaiterTests.m5large

  static func isGrowth(_ action: PoolAction) -> Bool {
    switch action {
    case .assign, .attachENI: true
    default: false
    }
  }

  @Test func throttledCallsBackOffAndWaitersWait() {
    var rig = PoolRig(Self.m5large)
    rig.fault = {
      Self.isGrowth($0) ? .init(failure: ActionFailure(.throttled(call: "AssignPrivateIpAddresses"))) : nil
    }
    rig.start()
    let waiter = rig.add("a", timeout: .seconds(20))
    rig.advance(.seconds(5))
    #expect(rig.cause(waiter) == nil, "a later try may still serve it")
    rig.fault = { _ in nil }
    rig.settle()
    #expect(rig.address(waiter) != nil)
    #expect((rig.calls["assign"] ?? 0) + (rig.calls["attach"] ?? 0) <= 8)
    #expect(rig.violations == [])
  }

  @Test func throttledForLongIsTold() {
    var settings = Self.m5large
    settings.maxENI = 1
    var rig = PoolRig(settings)
    rig.fault = {
      Self.isGrowth($0) ? .init(failure: ActionFailure(.throttled(call: "AssignPrivateIpAddresses"))) : nil
    }
    rig.start()
    rig.advance(.seconds(600))
    let waiter = rig.add("a", timeout: .seconds(1))
    rig.advance(.seconds(2))
    guard let cause = rig.cause(waiter) else {
      Issue.record("not answered")
      return
    }
    #expect("\(cause)".contains("EC2 throttles AssignPrivateIpAddresses"), "\(cause)")
    #expect((rig.calls["assign"] ?? 0) < 25, "ten minutes of refusals are not 600 calls")
    #expect(rig.violations == [])
  }

  @Test func missingPermissionIsNamedAndRarelyTried() {
    var rig = PoolRig(Self.m5large)
    let failure = ActionFailure(.unauthorized(permission: "ec2:AssignPrivateIpAddresses"))
    rig.fault = { if case .assign = $0 { .init(failure: failure) } else { nil } }
    rig.freeAddresses = 0
    rig.start()
    rig.advance(.seconds(3600))
    #expect((rig.calls["assign"] ?? 0) <= 16)
    #expect(rig.violations == [])
    var settings = Self.m5large
    settings.maxENI = 1
    var single = PoolRig(settings)
    single.fault = rig.fault
    single.start()
    single.settle()
    let waiter = single.add("a")
    #expect(
      "\(single.cause(waiter).map { "\($0)" } ?? "")".hasPrefix("missing permission ec2:AssignPrivateIpAddresses"))
    #expect(single.violations == [])
  }

  @Test func fullSubnetPausesAndSaysSo() {
    var rig = PoolRig(Self.m5large)
    rig.freeAddresses = 1
    rig.start()
    rig.settle()
    #expect(rig.pool.counts.total == 1, "the last one was taken")
    rig.add("a")
    let calls = rig.calls
    let refused = rig.add("b", timeout: .seconds(20))
    rig.settle()
    #expect("\(rig.cause(refused).map { "\($0)" } ?? "")".hasPrefix("subnet subnet-1 is full, next try in"))
    rig.freeAddresses = 100
    rig.advance(.seconds(60))
    #expect((rig.calls["assign"] ?? 0) - (calls["assign"] ?? 0) <= 1, "left alone for two minutes")
    rig.advance(.seconds(120))
    let later = rig.add("c")
    #expect(rig.address(later) != nil)
    #expect(rig.violations == [])
  }

  @Test func anotherSubnetIsTakenWhenOneIsFull() {
    var rig = PoolRig(Self.m5large)
    let other = SubnetID("subnet-2")
    rig.fault = { action in
      switch action {
      case .assign: .init(failure: ActionFailure(.subnetFull))
      case .attachENI(_, let request) where request.subnet == PoolRig.subnet:
        .init(failure: ActionFailure(.subnetFull))
      default: nil
      }
    }
    rig.start()
    rig.feed(.subnets([PoolRig.subnet, other].compactMap { $0 }))
    let waiter = rig.add("a")
    rig.settle()
    #expect(rig.address(waiter) != nil)
    #expect(rig.enis.values.contains { $0.subnet == other })
    #expect(rig.violations == [])
  }

  @Test func prefixesFallBackToAddressesAndReturn() {
    var settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 9, maxPods: 29, warmPrefixTarget: 1)
    settings.usesPrefixes = true
    var rig = PoolRig(settings)
    rig.freePrefixes = 0
    rig.start()
    let waiters = (0..<5).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.pool.fallbackSubnetIDs == [PoolRig.subnet])
    rig.freePrefixes = 100
    for pod in 0..<5 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(700))
    let later = rig.add("later")
    rig.settle()
    #expect(rig.address(later) != nil)
    rig.advance(.seconds(1800))
    #expect(rig.pool.fallbackSubnetIDs == [])
    #expect(rig.enis.values.allSatisfy { $0.cidrs.allSatisfy { !$0.isSingle } }, "single addresses drain")
    #expect(rig.violations == [])
  }

  @Test func lostAnswerOfAssignIsFoundByListing() {
    var rig = PoolRig(Self.m5large)
    var isFirst = true
    rig.fault = { action in
      guard case .assign = action, isFirst else { return nil }
      isFirst = false
      return .init(failure: ActionFailure(.other("timeout"), mayBeDone: true), isDone: true)
    }
    rig.start()
    let waiter = rig.add("a")
    rig.settle()
    #expect(rig.address(waiter) != nil)
    #expect(rig.calls["list"] == 1)
    #expect(rig.violations == [])
  }

  @Test func lostAnswerOfUnassignGivesNothingOut() {
    var settings = Self.m5large
    settings.warmIPTarget = 1
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<8 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.fault = { action in
      guard case .unassign = action else { return nil }
      return .init(failure: ActionFailure(.other("timeout"), mayBeDone: true), isDone: true)
    }
    for pod in 0..<8 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(60))
    for pod in 8..<16 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect((rig.calls["list"] ?? 0) >= 1)
    #expect(rig.violations == [])
  }

  @Test func failedWiringIsTriedAgainAndHoldsNothingElseUp() {
    var rig = PoolRig(Self.m5large)
    var failures = 0
    rig.fault = { action in
      guard case .wireENI(_, let eni) = action, eni.id.text == "eni-a1", failures < 3 else { return nil }
      failures += 1
      return .init(failure: ActionFailure(.other("no link with that MAC")))
    }
    rig.start()
    let waiters = (0..<20).map { rig.add("pod-\($0)", timeout: .seconds(60)) }
    rig.settle()
    #expect(failures == 3)
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }

  @Test func failedDetachLosesNothing() {
    var rig = PoolRig(Self.m5large)
    rig.fault = { if case .freeENI = $0 { .init(failure: ActionFailure(.other("in use"))) } else { nil } }
    rig.start()
    for pod in 0..<15 { rig.add("pod-\(pod)") }
    rig.settle()
    for pod in 0..<15 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(300))
    #expect((rig.calls["free"] ?? 0) >= 1)
    #expect((rig.calls["free"] ?? 0) <= 8)
    let waiters = (0..<27).map { rig.add("again-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }

  @Test func attachmentLimitIsLearnt() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 8, slotsPerENI: 9))
    rig.fault = { if case .attachENI = $0 { .init(failure: ActionFailure(.attachmentLimit)) } else { nil } }
    rig.start()
    rig.advance(.seconds(600))
    #expect((rig.calls["attach"] ?? 0) < 30)
    #expect(rig.violations == [])
  }

  @Test func takenDeviceIndexLeadsToTheNext() {
    var rig = PoolRig(Self.m5large)
    rig.fault = { action in
      guard case .attachENI(_, let request) = action, request.device == 1 else { return nil }
      return .init(failure: ActionFailure(.deviceTaken))
    }
    rig.start()
    let waiters = (0..<12).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect((rig.calls["attach"] ?? 0) < 20)
    #expect(rig.violations == [])
  }
}

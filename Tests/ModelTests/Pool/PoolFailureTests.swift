// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// What EC2 refuses, and how the pool recovers from a lost answer.
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

  /// EC2 throttles by call: a refused class of calls does not hold up the others.
  @Test(arguments: ["unassign", "free", "list"])
  func throttledClassHoldsNoOtherUp(_ kind: String) {
    var settings = Self.m5large
    settings.warmIPTarget = 2
    var rig = PoolRig(settings)
    var refused = 0
    rig.fault = { action in
      let isIt =
        switch action {
        case .unassign: kind == "unassign"
        case .freeENI: kind == "free"
        case .listENIs: kind == "list"
        default: false
        }
      guard isIt else { return nil }
      refused += 1
      return .init(failure: ActionFailure(.throttled(call: kind)))
    }
    rig.start()
    for pod in 0..<15 { rig.add("pod-\(pod)") }
    rig.settle()
    for pod in 0..<15 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(200))
    if kind == "list" { rig.feed(.observed(ENIListing(enis: [], askedAt: rig.now, isAuthoritative: false))) }
    rig.advance(.seconds(30))
    #expect(refused > 0)
    let before = rig.now
    let waiters = (0..<20).map { rig.add("next-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.now - before < .seconds(5), "no pod waits for it")
    rig.advance(.seconds(1800))
    #expect(refused < 100, "half an hour of refusals is not 1,800 calls")
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

  /// Custom networking without its ENIConfig: the agent creates no ENI and tells waiters the cause at once. It recovers
  /// as soon as the ENIConfig is known.
  @Test func unknownSubnetIsToldAndNothingIsAttached() throws {
    var settings = Self.m5large
    settings.usesCustomNetworking = true
    var rig = PoolRig(settings)
    rig.feed(.subnetsUnknown("ENIConfig default does not exist"))
    rig.start()
    let early = rig.add("a")
    rig.advance(.seconds(1))
    let said = rig.cause(early).map { "\($0)" } ?? ""
    #expect(said.hasPrefix("cannot create an ENI: ENIConfig default does not exist; "))
    rig.advance(.seconds(600))
    #expect(rig.calls["attach"] == nil)
    rig.feed(.subnets([try #require(SubnetID("subnet-7"))]))
    let late = rig.add("b")
    rig.settle()
    #expect(rig.address(late) != nil)
    #expect(rig.violations == [])
  }

  /// The pod limit of a node falls and rises, and the node is cordoned in between.
  @Test func podLimitAndCordonHoldFromTheNextDecision() {
    var settings = Self.m5large
    settings.warmIPTarget = 8
    var rig = PoolRig(settings)
    rig.feed(.maxPods(4))
    rig.start()
    rig.settle()
    #expect(rig.enis.values.reduce(0) { $0 + $1.cidrs.count } == 4)
    rig.feed(.schedulable(false))
    rig.feed(.maxPods(6))
    rig.settle()
    #expect(rig.enis.values.reduce(0) { $0 + $1.cidrs.count } == 4)
    rig.feed(.schedulable(true))
    rig.settle()
    #expect(rig.enis.values.reduce(0) { $0 + $1.cidrs.count } == 6)
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

  /// A pod's event says what is wrong, with the values, and what to do.
  @Test(
    arguments: [
      (.notReady, ["not ready"], "log"), (.shuttingDown, ["shutting down"], "kubelet retries"),
      (.provisioningOff, ["DISABLE_NETWORK_RESOURCE_PROVISIONING"], "unset"),
      (.nodeCordoned, ["AWS_MANAGE_ENIS_NON_SCHEDULABLE"], "uncordon"),
      (.maxPodsReached(29), ["all 29 addresses"], "--max-pods"),
      (.eniLimitReached(attached: 3, limit: 4), ["3 of 4"], "larger instance type"),
      (.enisTakeNoPods(attached: 4, limit: 4, idle: 2), ["4 of 4", "2 not usable"], "no_manage"),
      (.endedPodsHoldAddresses(4), ["4 are held by pods that ended without a DEL"], "kubelet retries"),
      (
        .attachmentLimit(attached: 2, limit: 3, retryIn: .seconds(7), words: "Interface count 3"),
        ["AttachmentLimitExceeded", "2 attached", "allows 3", "7 s"], "EBS volumes"
      ),
      (.noENIConfig("ENIConfig z: broken"), ["ENIConfig z: broken"], "correct"),
      (.throttled(call: "CreateTags", retryIn: .seconds(7)), ["CreateTags", "7 s"], "rate"),
      (.missingPermission("ec2:CreateTags", retryIn: .seconds(7)), ["ec2:CreateTags", "7 s"], "add it to the role"),
      (.callFailed("CreateTags: Odd: why", retryIn: .seconds(7)), ["CreateTags: Odd: why", "7 s"], "aws-cni doctor"),
      (.onlyCooling(count: 5, freeIn: .seconds(7)), ["(5)", "7 s"], "IP_COOLDOWN_PERIOD"),
      (.tooManyWaiting(4096), ["4096 requests"], "aws-cni status"),
      (.checkpointNotWritten("write /run/x: full"), ["write /run/x: full"], "free space"),
    ] as [(FailureCause, [String], String)])
  func eachCauseNamesItsValuesAndTheRemedy(_ cause: FailureCause, _ values: [String], _ remedy: String) throws {
    try namesThem(cause, values, remedy)
  }

  @Test func fullSubnetsAreNamedWithTheRemedy() throws {
    let subnet = try #require(SubnetID("subnet-9"))
    let wait = Duration.seconds(7)
    try namesThem(.subnetFull(subnet, retryIn: wait), ["subnet-9", "7 s"], "kubernetes.io/role/cni=1")
    try namesThem(.noFreePrefix(subnet, retryIn: wait), ["subnet-9", "7 s"], "reservation")
  }

  private func namesThem(_ cause: FailureCause, _ values: [String], _ remedy: String) throws {
    let parts = cause.description.split(separator: ";", maxSplits: 1)
    try #require(parts.count == 2, "\(cause)")
    for value in values { #expect(parts[0].contains(value)) }
    #expect(parts[1].contains(remedy), "\(cause)")
    #expect(cause.description.utf8.count < 400, "an event's note is cut at 1,024 bytes")
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

  /// Single addresses are used in place of prefixes. The pool does not give back addresses that the warm target would
  /// request again: not while the subnet has no prefix, and not when it has prefixes again and pods still use single
  /// addresses.
  @Test(arguments: [0, 5])
  func fallbackComesToRest(warmIPTarget: Int) {
    var settings = PoolSettings(
      instanceENILimit: 3, slotsPerENI: 9, warmIPTarget: warmIPTarget, warmPrefixTarget: 1)
    settings.usesPrefixes = true
    var rig = PoolRig(settings)
    rig.freePrefixes = 0
    rig.start()
    for pod in 0..<5 { rig.add("pod-\(pod)") }
    rig.settle()
    let isInFallback = { (rig: PoolRig) in !rig.pool.fallbackSubnetIDs.isEmpty }
    rig.advance(.seconds(120))
    #expect(isInFallback(rig))
    let before = rig.calls
    rig.advance(.seconds(400))
    #expect(isInFallback(rig) && rig.calls == before, "\(rig.calls) after \(before)")
    rig.freePrefixes = 100
    rig.delete("pod-0")
    rig.advance(.seconds(1200))
    for pod in 5..<8 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(300))
    let later = rig.calls
    rig.advance(.seconds(1800))
    #expect(rig.calls == later, "\(rig.calls) after \(later)")
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
}

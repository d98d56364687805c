// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// How a node spares the other nodes when many pods start at once.
@Suite struct PoolBurstTests {
  static let big = PoolSettings(instanceENILimit: 8, slotsPerENI: 29, maxPods: 234)
  static let prefixes = PoolSettings(
    instanceENILimit: 8, slotsPerENI: 29, maxPods: 110, warmPrefixTarget: 1, usesPrefixes: true)

  static func throttled(_ action: PoolAction) -> PoolRig.Fault? {
    switch action {
    case .attachENI: .init(failure: ActionFailure(.throttled(call: "CreateNetworkInterface")))
    case .assign: .init(failure: ActionFailure(.throttled(call: "AssignPrivateIpAddresses")))
    default: nil
    }
  }

  @Test func warmENIWaitsUntilNoPodDoes() {
    var rig = PoolRig(Self.big)
    rig.start()
    rig.settle()
    for pod in 0..<46 { rig.add("pod-\(pod)") }
    #expect(rig.running.count == 1, "one ENI for the 17 that wait, none for the target")
    rig.settle()
    rig.advance(.seconds(3))
    #expect(rig.calls["attach"] == 2)
    #expect(rig.violations == [])
  }

  @Test func warmENIComesLateOnceEC2HasRefused() {
    var rig = PoolRig(Self.big)
    rig.start()
    rig.settle()
    rig.fault = Self.throttled
    let waiters = (0..<46).map { rig.add("pod-\($0)") }
    rig.advance(.seconds(4))
    rig.fault = { _ in nil }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    let calls = rig.calls["attach"]
    rig.advance(.seconds(100))
    #expect(rig.calls["attach"] == calls, "other nodes' pods wait")
    rig.advance(.seconds(200))
    #expect(rig.calls["attach"] == calls.map { $0 + 1 })
    #expect(rig.violations == [])
  }

  /// The first of many pods breaks the warm target. A call for the warm target alone would need a second call for the
  /// waiting pods.
  @Test func podsOfOneMomentAreOneCall() {
    var rig = PoolRig(Self.prefixes)
    rig.start()
    rig.settle()
    let calls = rig.calls["assign"] ?? 0
    for pod in 0..<46 {
      rig.add("pod-\(pod)")
      if pod < 16 { rig.advance(.milliseconds(20)) }
    }
    rig.settle()
    #expect(rig.calls["assign"] == calls + 1 || rig.pool.counts.total >= 48)
    #expect(rig.pool.counts.assigned == 46)
    #expect((rig.calls["assign"] ?? 0) <= calls + 2)
    #expect(rig.violations == [])
  }

  @Test func throttledAssignIsNoReasonForAnENI() {
    var rig = PoolRig(Self.prefixes)
    rig.start()
    rig.settle()
    rig.fault = { if case .assign = $0 { Self.throttled($0) } else { nil } }
    for pod in 0..<46 { rig.add("pod-\(pod)") }
    rig.advance(.seconds(15))
    #expect(rig.calls["attach"] == nil)
    rig.fault = { _ in nil }
    rig.settle()
    #expect(rig.pool.counts.assigned == 46)
    #expect(rig.violations == [])
  }

  /// kubelet retries 10 to 15 s after a failure. The pool goes on growing meanwhile and gives nothing back.
  @Test func growthGoesOnForPodsThatWereTurnedAway() {
    var rig = PoolRig(Self.prefixes)
    rig.start()
    rig.settle()
    rig.fault = Self.throttled
    let waiters = (0..<46).map { rig.add("pod-\($0)", timeout: .seconds(6)) }
    rig.advance(.seconds(7))
    #expect(waiters.filter { rig.address($0) == nil && rig.cause($0) != nil }.count == 30)
    #expect(rig.waiting.isEmpty)
    rig.fault = { _ in nil }
    rig.advance(.seconds(12))
    #expect(rig.pool.counts.free >= 30, "nobody waits, and yet they are expected")
    #expect(rig.calls["unassign"] == nil)
    let again = (16..<46).map { rig.add("pod-\($0)") }
    #expect(again.allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }

  @Test func whoDoesNotComeBackIsForgotten() {
    var rig = PoolRig(Self.prefixes)
    rig.start()
    rig.settle()
    rig.fault = Self.throttled
    for pod in 0..<46 { rig.add("pod-\(pod)", timeout: .seconds(6)) }
    rig.advance(.seconds(7))
    rig.fault = { _ in nil }
    rig.advance(.seconds(600))
    #expect(rig.pool.counts.assigned == 16)
    #expect(rig.pool.counts.total == 32, "the warm target alone")
    #expect(rig.violations == [])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// What the pool does on its own, with no event but its own wakes, once an obstacle is gone.
@Suite struct PoolRestTests {
  /// EC2 took an address from a running pod. The pool uses the slot of the address again once the pod is gone.
  @Test func theSlotOfWhatWasLostIsAskedForAgain() throws {
    var settings = PoolSettings(instanceENILimit: 1, slotsPerENI: 3)
    settings.cooldown = .zero
    var rig = PoolRig(settings)
    rig.start()
    let waiters = (0..<3).map { rig.add("pod-\($0)") }
    rig.settle()
    let first = try #require(rig.address(waiters[0]))
    rig.advance(.seconds(61))
    rig.removeAtEC2(IPPrefix(single: first))
    rig.observe(isAuthoritative: true)
    rig.advance(.seconds(300))
    let before = rig.calls["assign"] ?? 0
    rig.delete("pod-0")
    rig.advance(.seconds(5))
    #expect(rig.calls["assign"] == before + 1)
    #expect(rig.pool.counts.total == 3 && rig.pool.counts.free == 1)
    #expect(rig.violations == [])
  }

  /// The pool gives nothing back while a pod waits. Once no pod waits, it gives back the surplus.
  @Test func whatWaitersKeptGoesBackAfterThem() throws {
    var settings = PoolSettings(
      instanceENILimit: 2, slotsPerENI: 2, warmIPTarget: 0, minimumIPTarget: 1, usesPrefixes: true)
    settings.cooldown = .zero
    var rig = PoolRig(settings)
    // The mode was switched: one slot holds a single address, whose pod ends while another pod waits.
    let single = try #require(IPPrefix("10.0.0.9/32"))
    var checkpoint = Checkpoint()
    checkpoint.allocations = [
      CheckpointAllocation(
        key: PoolRig.key("old"), address: single.address, unixNanoseconds: 1,
        pod: PodName(namespace: "default", name: "old"))
    ]
    rig.start(checkpoint: checkpoint, primaryCIDRs: [single])
    for pod in 0..<16 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(60))
    #expect(rig.pool.counts.assigned == 17 && rig.pool.counts.free == 0)
    rig.fault = { action in
      if case .attachENI = action { .init(failure: ActionFailure(.throttled(call: "X"))) } else { nil }
    }
    let waiter = rig.add("waits", timeout: .seconds(40))
    // This is the middle of the pause between two attempts, so that the end of an attempt does not cause the return.
    var quiet = 0
    while quiet < 15 {
      rig.advance(.milliseconds(100))
      quiet = rig.running.isEmpty ? quiet + 1 : 0
    }
    rig.delete("old")
    rig.advance(.milliseconds(1))
    rig.cancel(waiter)
    rig.advance(.seconds(300))
    #expect(rig.enis[PoolRig.primary]?.cidrs.contains(single) == false, "the leftover is gone")
    #expect(rig.violations == [])
  }

  /// A cordoned node sends no request to EC2. Once uncordoned, it gives back the surplus.
  @Test func whatACordonKeptGoesBackAfterIt() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 1, slotsPerENI: 9, warmIPTarget: 1))
    rig.start()
    for pod in 0..<5 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.feed(.schedulable(false))
    for pod in 0..<5 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(300))
    #expect(rig.calls["unassign"] == nil && rig.pool.counts.free > 1)
    rig.feed(.schedulable(true))
    rig.advance(.seconds(5))
    #expect(rig.pool.counts.free == 1)
    #expect(rig.violations == [])
  }

  /// The answer to a return was lost, and EC2 gave the address to another ENI. The pool counts the address on that ENI.
  @Test func whatWentFromOneENIToAnotherIsTheOthers() throws {
    var settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 4, warmIPTarget: 1)
    settings.cooldown = .zero
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<6 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(120))
    let onPrimary = try #require(rig.enis[PoolRig.primary]).cidrs.sorted()
    try #require(rig.enis.count > 1 && onPrimary.count == 4)
    let holders = try onPrimary.map { try #require(rig.inUse[$0.address]).containerID }
    rig.delete(holders[0])
    rig.advance(.seconds(60))
    // EC2 carries out the next return, but its answer is lost.
    rig.fault = { action in
      if case .unassign = action {
        .init(failure: ActionFailure(.other("timeout"), mayBeDone: true), isDone: true)
      } else if case .listENIs = action {
        .init(failure: ActionFailure(.other("timeout")))
      } else {
        nil
      }
    }
    rig.delete(holders[1])
    rig.advance(.seconds(10))
    let moved = onPrimary[0]
    try #require(rig.enis[PoolRig.primary]?.cidrs.contains(moved) == false)
    for pod in 10..<13 { rig.add("pod-\(pod)", timeout: .seconds(5)) }
    rig.advance(.seconds(10))
    let others = rig.enis.filter { $0.key != PoolRig.primary }
    try #require(others.values.contains { $0.cidrs.contains(moved) }, "given anew")
    // The call whose answer was lost might have taken the address away again.
    rig.fault = { _ in nil }
    rig.advance(.seconds(180))
    for (id, eni) in rig.enis where id != PoolRig.primary {
      // The ENI may have been freed by now.
      guard let known = rig.pool.enis.first(where: { $0.eni.id == id }) else { continue }
      #expect(Set(known.cidrs.map(\.prefix)) == eni.cidrs)
    }
    #expect(rig.violations == [])
  }

  /// The pool tries for prefixes every ten minutes. It keeps the single addresses in their place until it gets some.
  @Test func tryingForPrefixesGivesNothingBack() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 3, slotsPerENI: 9, warmPrefixTarget: 1, usesPrefixes: true))
    rig.freePrefixes = 0
    rig.start()
    for pod in 0..<5 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(120))
    let before = rig.calls
    rig.advance(.seconds(1800))
    #expect((rig.calls["assign"] ?? 0) + (rig.calls["attach"] ?? 0) > (before["assign"] ?? 0) + (before["attach"] ?? 0))
    #expect(
      rig.calls["unassign"] == before["unassign"] && rig.calls["free"] == before["free"], "\(before) \(rig.calls)")
    #expect(rig.violations == [])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// A start with running pods, and changes at EC2 that the agent did not make.
@Suite struct PoolRestartTests {
  static let m5large = PoolWaiterTests.m5large

  static func rig(pods: Int) -> PoolRig {
    var rig = PoolRig(m5large)
    rig.start()
    for pod in 0..<pods { rig.add("pod-\(pod)") }
    rig.settle()
    return rig
  }

  @Test func restartKeepsAddressesAndCooldown() {
    var rig = Self.rig(pods: 9)
    let addresses = (0..<9).compactMap { rig.pool.assignment(of: PoolRig.key("pod-\($0)"))?.address }
    rig.delete("pod-0")
    rig.advance(.seconds(10))
    rig.restart(seed: 5)
    rig.settle()
    #expect(rig.pool.counts.assigned == 8)
    #expect(rig.pool.counts.cooling == 1)
    #expect(rig.pool.assignment(of: PoolRig.key("pod-1"))?.address == addresses[1])
    rig.add("new")
    rig.settle()
    #expect(rig.pool.assignment(of: PoolRig.key("new"))?.address != addresses[0])
    rig.advance(.seconds(21))
    #expect(rig.pool.counts.cooling == 0)
    #expect(rig.violations == [])
  }

  /// Every slot of every ENI holds a single address when the node restarts with prefixes enabled. The idle addresses
  /// make way, and no pod fails because of them.
  @Test func leftoversOfTheOtherModeMakeWayForPods() {
    var rig = Self.rig(pods: 11)
    // The pool requests the warm ENI only when no pod waits any more.
    rig.advance(.seconds(5))
    #expect(rig.pool.counts.total == 27)
    var settings = Self.m5large
    settings.usesPrefixes = true
    settings.warmPrefixTarget = 1
    rig.restart(seed: 7, settings: settings)
    let waiters = (0..<6).map { rig.add("new-\($0)") }
    rig.settle()
    for waiter in waiters {
      guard case .assigned = rig.answers[waiter] else {
        Issue.record("\(String(describing: rig.answers[waiter]))")
        continue
      }
    }
    #expect(rig.violations == [])
  }

  @Test func cooldownFromAClockThatWasSetIsBounded() {
    var rig = PoolRig(Self.m5large)
    let address = IPAddress(ipv4: 0x0a00_0014)
    let checkpoint = Checkpoint(cooldowns: [
      CheckpointCooldown(address: address, untilUnixNanoseconds: Int64.max)
    ])
    rig.start(checkpoint: checkpoint, primaryCIDRs: [IPPrefix(single: address)])
    #expect(rig.pool.counts.cooling == 1)
    rig.advance(.seconds(31))
    #expect(rig.pool.counts.cooling == 0)
  }

  @Test func allocationWithoutCIDRStaysAccounted() {
    var rig = PoolRig(Self.m5large)
    let address = IPAddress(ipv4: 0x0a00_0014)
    let entry = CheckpointAllocation(
      key: PoolRig.key("old"), address: address, unixNanoseconds: 1, pod: PodName(namespace: "a", name: "b"))
    rig.start(checkpoint: Checkpoint(allocations: [entry]))
    #expect(rig.pool.counts.stray == 1)
    rig.addAtEC2(PoolRig.primary, IPPrefix(single: address))
    rig.advance(.seconds(5))
    rig.observe(isAuthoritative: true)
    #expect(rig.pool.counts.stray == 0, "the address was found again")
    #expect(rig.pool.assignment(of: entry.key)?.eni == PoolRig.primary)
    rig.settle()
    for pod in 0..<9 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.violations == [])
  }

  @Test func migratedEntryIsFoundByContainer() {
    var rig = PoolRig(Self.m5large)
    let address = IPAddress(ipv4: 0x0a00_0014)
    let entry = CheckpointAllocation(
      key: .migrated(containerID: "c1"), address: address, unixNanoseconds: 1, pod: PodName(namespace: "", name: ""))
    rig.start(checkpoint: Checkpoint(allocations: [entry]), primaryCIDRs: [IPPrefix(single: address)])
    let waiter = rig.delete("c1")
    guard case .released(let assignment) = rig.released[waiter] else {
      Issue.record("not released")
      return
    }
    #expect(assignment.address == address)
  }

  @Test func addressTakenAwayStaysAccountedUntilThePodGoes() {
    var rig = Self.rig(pods: 2)
    rig.advance(.seconds(5))
    guard let address = rig.pool.assignment(of: PoolRig.key("pod-0"))?.address else { return }
    rig.removeAtEC2(IPPrefix(single: address))
    rig.advance(.seconds(61))
    rig.observe(isAuthoritative: false)
    #expect(rig.calls["list"] == 1, "IMDS is not believed, EC2 is asked")
    rig.settle()
    #expect(rig.pool.counts.assigned == 2)
    rig.delete("pod-0")
    rig.advance(.seconds(60))
    #expect(rig.pool.enis.allSatisfy { $0.cidrs.allSatisfy { !$0.prefix.contains(address) || $0.isUsable } })
    #expect(rig.violations == [])
  }

  @Test func eniTakenAwayIsForgottenWhenItsPodsAreGone() {
    var rig = Self.rig(pods: 12)
    rig.advance(.seconds(61))
    guard let eni = rig.pool.assignments.compactMap(\.eni).first(where: { $0 != PoolRig.primary }) else {
      Issue.record("no pod on a second ENI")
      return
    }
    rig.removeAtEC2(eni)
    rig.observe(isAuthoritative: true)
    rig.settle()
    #expect(rig.pool.counts.assigned == 12)
    for pod in 0..<12 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(120))
    #expect(!rig.pool.enis.contains { $0.eni.id == eni })
    #expect(rig.violations == [])
  }

  @Test func laggingIMDSCostsNothing() {
    var settings = Self.m5large
    settings.warmIPTarget = 1
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<6 { rig.add("pod-\(pod)") }
    rig.settle()
    let stale = rig.listing()
    for pod in 0..<6 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(61))
    let held = rig.pool.counts.total
    let listing = ENIListing(enis: stale, askedAt: rig.now, isAuthoritative: false)
    rig.feed(.observed(listing))
    #expect(rig.pool.counts.total == held, "what was given back a moment ago is not believed to be there")
    #expect(rig.calls["list"] == nil)
    #expect(rig.violations == [])
  }

  @Test func unmanagedENITakesAPlace() {
    var rig = PoolRig(Self.m5large, unmanagedENIs: 1)
    rig.start()
    let waiters = (0..<20).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.compactMap(rig.address).count == 18)
    #expect(rig.cause(waiters[19]) == .enisTakeNoPods(attached: 3, limit: 3, idle: 1))
    #expect(rig.violations == [])
  }

  @Test func otherModesLeftoversDrain() {
    var settings = Self.m5large
    settings.usesPrefixes = true
    settings.warmPrefixTarget = 1
    var rig = PoolRig(settings)
    let singles = (0..<3).map { IPPrefix(single: IPAddress(ipv4: 0x0a00_0014 + $0)) }
    let entry = CheckpointAllocation(
      key: PoolRig.key("old"), address: singles[0].address, unixNanoseconds: 1,
      pod: PodName(namespace: "a", name: "old"))
    rig.start(checkpoint: Checkpoint(allocations: [entry]), primaryCIDRs: singles)
    rig.advance(.seconds(120))
    let left = rig.enis[PoolRig.primary]?.cidrs.filter(\.isSingle)
    #expect(left == [singles[0]], "only the one in use is kept")
    rig.delete("old")
    rig.advance(.seconds(120))
    #expect(rig.enis[PoolRig.primary]?.cidrs.contains { $0.isSingle } == false)
    #expect(rig.violations == [])
  }

  @Test func contradictingListingIsNotBelieved() {
    var rig = Self.rig(pods: 12)
    rig.advance(.seconds(5))
    rig.feed(.observed(ENIListing(enis: [], askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.enis.contains { $0.eni.isPrimary && $0.isOpen })
    #expect(rig.pool.counts.assigned == 12)
    rig.advance(.seconds(5))
    let twice = [ENIID("eni-b1"), ENIID("eni-b2")].compactMap { $0 }.enumerated().map { index, id in
      ENIObservation(
        id: id, device: 7 + index, subnet: PoolRig.subnet, cidrs: [IPPrefix(single: IPAddress(ipv4: 0x0a09_0909))],
        isWired: true)
    }
    let before = rig.pool.counts.total
    rig.feed(.observed(ENIListing(enis: rig.listing() + twice, askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.counts.total <= before + 1, "one address on two ENIs counts once")
  }
}

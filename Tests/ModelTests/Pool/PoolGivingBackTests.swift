// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// No pod gets an address that is being given back to EC2, whenever the agent ends and whatever a listing shows.
@Suite struct PoolGivingBackTests {
  static let settings = PoolSettings(instanceENILimit: 4, slotsPerENI: 6, warmIPTarget: 1, cooldown: .zero)

  /// A node whose pods are gone, at the moment when it asks EC2 to take something back.
  static func rig(until isReached: (PoolAction) -> Bool) throws -> PoolRig {
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<14 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(70))
    for pod in 1..<14 { rig.delete("pod-\(pod)") }
    for _ in 0..<3000 where !rig.running.contains(where: { isReached($0.action) }) { rig.advance(.milliseconds(100)) }
    try #require(rig.running.contains { isReached($0.action) })
    return rig
  }

  static func isUnassign(_ action: PoolAction) -> Bool { if case .unassign = action { true } else { false } }
  static func isFree(_ action: PoolAction) -> Bool { if case .freeENI = action { true } else { false } }

  /// The agent ends while the call is in flight. The next agent repeats the call, and no pod gets an address that EC2
  /// may take away at any moment. `PoolRig` carries out the first call late, early or never.
  @Test(arguments: [true, false], 1...9) func aRestartGoesOnWithIt(unassigns: Bool, seed: UInt64) throws {
    var rig = try Self.rig(until: unassigns ? Self.isUnassign : Self.isFree)
    let leaving = rig.saved.returns.filter { $0.untilUnixNanoseconds == nil }
    #expect(!leaving.isEmpty, "written before the call")
    let before = rig.calls
    rig.restart(seed: seed)
    let waiters = (0..<12).map { rig.add("new-\($0)") }
    rig.settle()
    rig.advance(.seconds(200))
    for waiter in waiters {
      let address = try #require(rig.address(waiter), "\(String(describing: rig.cause(waiter)))")
      #expect(rig.enis.values.contains { $0.cidrs.contains { $0.contains(address) } }, "\(address) is the node's")
    }
    #expect(rig.calls != before)
    #expect(rig.violations == [])
  }

  /// EC2 answered the call a moment ago, but its listing at the next start still shows what the call took away.
  @Test(arguments: [true, false]) func aLaggingListingAtAStartBringsNothingBack(unassigns: Bool) throws {
    var rig = try Self.rig(until: unassigns ? Self.isUnassign : Self.isFree)
    let stale = rig.listing()
    rig.advance(.seconds(1))
    let held = Set(rig.enis.values.flatMap(\.cidrs))
    let given = Set(stale.flatMap(\.cidrs)).subtracting(held)
    try #require(!given.isEmpty)
    #expect(rig.saved.returns.contains { $0.untilUnixNanoseconds != nil })
    rig.restart(seed: 1, lag: .seconds(2))
    rig.add("new")
    rig.advance(.seconds(3))
    let known = Set(rig.pool.enis.filter(\.isOpen).flatMap(\.cidrs).map(\.prefix))
    #expect(known.isDisjoint(with: given.subtracting(Set(rig.enis.values.flatMap(\.cidrs)))))
    #expect(rig.violations == [])
  }

  /// The pool gives nothing back that it cannot write to the checkpoint first.
  @Test func nothingIsGivenBackThatIsNotWrittenDown() throws {
    var rig = PoolRig(Self.settings)
    rig.start()
    for pod in 0..<14 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(70))
    for pod in 1..<14 { rig.delete("pod-\(pod)") }
    rig.failsCheckpoint = true
    let before = rig.calls
    rig.advance(.seconds(300))
    #expect(rig.calls["unassign"] == before["unassign"] && rig.calls["free"] == before["free"])
    rig.failsCheckpoint = false
    rig.advance(.seconds(300))
    #expect(rig.calls["unassign"] != before["unassign"] || rig.calls["free"] != before["free"])
    #expect(rig.violations == [])
  }

  /// The checkpoint plans to give back something that a pod uses: the pod keeps it.
  @Test func whatAPodHasIsNotGivenBack() throws {
    var rig = PoolRig(Self.settings)
    let addresses = (0..<2).map { IPPrefix(single: IPAddress(ipv4: 0x0a00_0014 + $0)) }
    let entry = CheckpointAllocation(
      key: PoolRig.key("old"), address: addresses[0].address, unixNanoseconds: 1,
      pod: PodName(namespace: "a", name: "old"))
    let returns = addresses.map { CheckpointReturn(.cidr($0, of: PoolRig.primary)) }
    rig.start(checkpoint: Checkpoint(allocations: [entry], returns: returns), primaryCIDRs: addresses)
    rig.advance(.seconds(200))
    #expect(rig.enis[PoolRig.primary]?.cidrs.contains(addresses[0]) == true)
    #expect(rig.enis[PoolRig.primary]?.cidrs.contains(addresses[1]) == false)
    #expect(rig.violations == [])
  }

  /// The start has only IMDS, and a checkpoint that cannot say what was given back. The pool gives out nothing new
  /// before IMDS has caught up.
  @Test func withoutACheckpointIMDSIsNotTrustedAtOnce() throws {
    var pool = Pool(settings: PoolSettings(instanceENILimit: 1, slotsPerENI: 3), seed: 1)
    let eni = ENIObservation(
      id: PoolRig.primary, device: 0, subnet: PoolRig.subnet,
      cidrs: (0..<3).map { IPPrefix(single: IPAddress(ipv4: 0x0a00_0014 + $0)) }, isWired: true)
    var time = PoolTime(instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1)
    _ = pool.handle(.started(PoolStart(enis: [eni], restsUnproven: true)), now: time)
    #expect(pool.counts.free == 0 && pool.counts.cooling == 3)
    time.instant = time.instant + .seconds(61)
    _ = pool.handle(.tick, now: time)
    #expect(pool.counts.free == 3)
  }
}

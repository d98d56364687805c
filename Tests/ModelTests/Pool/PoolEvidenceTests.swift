// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// One listing never takes anything from running pods: not at a start, not later, not if it is repeated.
@Suite struct PoolEvidenceTests {
  static let settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 6)

  /// A node with pods on two ENIs.
  static func rig() throws -> PoolRig {
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<9 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(5))
    return rig
  }

  /// The listing at the start lacks an address or an ENI that pods use. The pods keep their network, and the pool asks
  /// EC2 until EC2 shows it.
  @Test(arguments: 1...12) func anIncompleteListingAtTheStart(seed: UInt64) throws {
    var rig = try Self.rig()
    let addresses = rig.inUse
    rig.restart(seed: seed, misses: true)
    rig.settle()
    rig.advance(.seconds(30))
    #expect(rig.inUse == addresses)
    #expect(rig.pool.counts.assigned == 9 && rig.pool.counts.stray == 0, "EC2 was asked again")
    #expect(rig.violations == [])
  }

  /// The listing at the start is stale, and the first queries fail: the pool asks again, and nothing is lost.
  @Test func twoStaleAnswers() throws {
    var rig = try Self.rig()
    var stale = 2
    rig.restart(seed: 3, misses: true)
    rig.fault = { action in
      guard case .listENIs = action, stale > 0 else { return nil }
      stale -= 1
      return .init(failure: ActionFailure(.other("no answer")))
    }
    rig.advance(.seconds(300))
    #expect(rig.pool.counts.stray == 0 && rig.pool.counts.assigned == 9)
    #expect(rig.violations == [])
  }

  /// Somebody tags an ENI `no_manage` while pods run on it: it gets no new pods, and its pods keep its routes.
  @Test func anENIThatIsNoLongerOursStaysWantedForItsPods() throws {
    var rig = try Self.rig()
    let eni = try #require(rig.pool.assignments.compactMap(\.eni).first { $0 != PoolRig.primary })
    let sources = try #require(rig.pool.wantedENIs[eni]).cidrs.sorted()
    rig.advance(.seconds(61))
    var seen = rig.listing()
    for index in seen.indices where seen[index].id == eni { seen[index].isManaged = false }
    rig.feed(.observed(ENIListing(enis: seen, askedAt: rig.now, isAuthoritative: true)))
    rig.settle()
    #expect(rig.pool.enis.first { $0.eni.id == eni }?.eni.isManaged == false)
    #expect(rig.pool.wantedENIs[eni]?.cidrs.sorted() == sources)
    #expect(rig.violations == [])
  }

  /// A listing shows an address in use on another ENI. The address moves only when a later listing confirms it.
  @Test func anAddressInUseMovesOnTheSecondWord() throws {
    var rig = try Self.rig()
    let victim = try #require(
      rig.pool.assignments.first { $0.eni != PoolRig.primary }, "a pod on a secondary ENI")
    rig.advance(.seconds(61))
    var seen = rig.listing()
    for index in seen.indices {
      seen[index].cidrs.removeAll { $0.contains(victim.address) }
      if seen[index].id == PoolRig.primary { seen[index].cidrs.append(IPPrefix(single: victim.address)) }
    }
    rig.feed(.observed(ENIListing(enis: seen, askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.assignment(of: victim.key)?.eni == victim.eni, "once is not enough")
    rig.advance(.seconds(8))
    #expect(rig.pool.assignment(of: victim.key)?.eni == victim.eni)
    #expect(rig.pool.enis.flatMap(\.cidrs).filter { $0.prefix.contains(victim.address) }.count == 1)
    #expect((rig.calls["list"] ?? 0) >= 1, "EC2 was asked again")
    // Now the address has really moved: EC2 says so for more than a minute.
    rig.removeAtEC2(IPPrefix(single: victim.address))
    rig.addAtEC2(PoolRig.primary, IPPrefix(single: victim.address))
    rig.observe(isAuthoritative: true)
    rig.advance(.seconds(30))
    #expect(rig.pool.assignment(of: victim.key)?.eni == victim.eni)
    rig.advance(.seconds(120))
    #expect(rig.pool.assignment(of: victim.key)?.eni == PoolRig.primary)
  }

  /// The listing at the start and the next one, a moment later, show the address on another ENI than the kernel.
  @Test func twoStaleListingsMoveNothing() throws {
    let address = IPPrefix(single: IPAddress(ipv4: 0x0a00_0063))
    let other = try #require(ENIID("eni-x"))
    let entry = CheckpointAllocation(
      key: PoolRig.key("old"), address: address.address, unixNanoseconds: 1, pod: PodName(namespace: "a", name: "old"))
    var primary = ENIObservation(id: PoolRig.primary, device: 0, subnet: PoolRig.subnet, isWired: true)
    var second = ENIObservation(id: other, device: 1, subnet: PoolRig.subnet, isWired: true)
    var pool = Pool(settings: Self.settings, seed: 1)
    var time = PoolTime(instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1)
    var start = PoolStart(enis: [primary, second], checkpoint: Checkpoint(allocations: [entry]))
    start.contested = [address: PoolRig.primary]
    _ = pool.handle(.started(start), now: time)
    primary.cidrs = [address]
    time.instant = time.instant + .seconds(30)
    var listing = ENIListing(enis: [primary, second], askedAt: time.instant, isAuthoritative: true)
    _ = pool.handle(.observed(listing), now: time)
    #expect(pool.counts.stray == 1, "not believed yet")
    (primary.cidrs, second.cidrs) = ([], [address])
    time.instant = time.instant + .seconds(5)
    listing = ENIListing(enis: [primary, second], askedAt: time.instant, isAuthoritative: true)
    _ = pool.handle(.observed(listing), now: time)
    #expect(pool.counts.stray == 0 && pool.assignment(of: entry.key)?.eni == other)
  }

  /// The pool does not touch an ENI that only IMDS has shown. Once EC2 has shown it, the pool uses what EC2 says.
  @Test(arguments: ["managed", "not ours", "trunk"]) func anUnconfirmedENI(_ what: String) throws {
    let id = try #require(ENIID("eni-x"))
    var shown = ENIObservation(
      id: id, device: 1, subnet: PoolRig.subnet, cidrs: [try #require(IPPrefix("10.0.0.99/32"))], isManaged: false)
    shown.isConfirmed = false
    var pool = Pool(settings: Self.settings, seed: 1)
    let primary = ENIObservation(id: PoolRig.primary, device: 0, subnet: PoolRig.subnet, isWired: true)
    var time = PoolTime(instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1)
    var actions = pool.handle(.started(PoolStart(enis: [primary, shown])), now: time)
    #expect(!actions.contains { $0.names(id) })
    #expect(pool.counts.enis == 2, "it takes a place")
    time.instant = time.instant + .seconds(6)
    actions = pool.handle(.tick, now: time)
    let list = try #require(actions.first { if case .listENIs = $0 { true } else { false } }, "EC2 is asked")
    shown.isConfirmed = true
    shown.isManaged = what != "not ours"
    shown.isTrunk = what == "trunk"
    let listing = ENIListing(enis: [primary, shown], askedAt: time.instant, isAuthoritative: true)
    actions = pool.handle(.ended(try #require(list.id), .listed(listing)), now: time)
    #expect(actions.contains { $0.names(id) } == (what != "not ours"), "wired where it is ours")
    let snapshot = try #require(pool.enis.first { $0.eni.id == id })
    #expect(snapshot.isManaged == (what != "not ours") && snapshot.eni.isTrunk == (what == "trunk"))
    #expect(!pool.isInquiring)
  }
}

extension PoolAction {
  /// Whether the action is about that ENI.
  fileprivate func names(_ eni: ENIID) -> Bool {
    switch self {
    case .assign(_, eni, _, _), .unassign(_, eni, _), .freeENI(_, eni): true
    case .wireENI(_, let observation): observation.id == eni
    default: false
    }
  }
}

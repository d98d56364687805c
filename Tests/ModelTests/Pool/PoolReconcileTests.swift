// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// IMDS, EC2 and the pool compared: what a listing can change, and when the pool asks EC2.
@Suite struct PoolReconcileTests {
  static let warmIP = PoolSettings(instanceENILimit: 4, slotsPerENI: 6, warmIPTarget: 2, cooldown: .zero)

  /// IMDS shows every change of the agent late. The pool makes no extra call and loses nothing.
  @Test func ownChangesInALaggingIMDSCostNoCall() {
    var rig = PoolRig(Self.warmIP)
    rig.start()
    rig.settle()
    let pods = (0..<14).map { "pod-\($0)" }
    for pod in pods {
      rig.add(pod)
      rig.advance(.seconds(7))
      rig.observe(lag: .seconds(55))
    }
    for pod in pods {
      rig.delete(pod)
      rig.advance(.seconds(40))
      rig.observe(lag: .seconds(55))
    }
    rig.advance(.seconds(120))
    #expect(rig.calls["list"] == nil)
    #expect((rig.calls["attach"] ?? 0) > 0 && (rig.calls["free"] ?? 0) > 0 && (rig.calls["unassign"] ?? 0) > 0)
    #expect(rig.violations == [])
  }

  /// IMDS can stay wrong permanently (amazon-vpc-cni-k8s issue 2497), and EC2's first answer can be stale. The pool
  /// asks EC2 about a difference as long as it lasts, after waits that double.
  @Test(arguments: ["address missing", "address more", "ENI missing", "ENI more"])
  func aDifferenceThatStaysIsAskedAboutEverMoreSeldom(_ what: String) throws {
    var rig = PoolRig(Self.warmIP)
    rig.start()
    for pod in 0..<8 { rig.add("pod-\(pod)") }
    rig.advance(.seconds(300))
    let before = rig.pool.counts
    let calls = rig.calls
    for _ in 0..<30 {
      var seen = rig.listing().sorted { $0.device < $1.device }
      switch what {
      case "address missing": seen[0].cidrs.removeLast()
      case "address more": seen[0].cidrs.append(try #require(IPPrefix("10.9.9.9/32")))
      case "ENI missing": seen.removeLast()
      default:
        seen.append(ENIObservation(id: try #require(ENIID("eni-old")), device: 9, subnet: PoolRig.subnet))
      }
      rig.feed(.observed(ENIListing(enis: seen, askedAt: rig.now, isAuthoritative: false)))
      rig.advance(.seconds(60))
    }
    // At once, and 1, 3, 7 and 15 minutes later.
    #expect((rig.calls["list"] ?? 0) - (calls["list"] ?? 0) == 5)
    #expect(rig.pool.counts == before)
    #expect(rig.violations == [])
  }

  @Test func whatIsTakenFromRunningPodsIsCounted() throws {
    var rig = PoolRig(Self.warmIP)
    rig.start()
    let waiters = (0..<10).map { rig.add("pod-\($0)") }
    rig.advance(.seconds(300))
    let address = try #require(rig.address(waiters[0]))
    rig.removeAtEC2(IPPrefix(single: address))
    rig.observe(isAuthoritative: true)
    #expect(rig.pool.forcedRemovals.addresses == 1 && rig.pool.forcedRemovals.enis == 0)
    let other = try #require(rig.enis.first { $0.key != PoolRig.primary })
    let inUse = rig.inUse.keys.count { used in other.value.cidrs.contains { $0.contains(used) } }
    try #require(inUse > 0)
    rig.removeAtEC2(other.key)
    for _ in 0..<3 { rig.observe(isAuthoritative: true) }
    #expect(rig.pool.forcedRemovals.addresses == 1 + inUse && rig.pool.forcedRemovals.enis == 1)
    #expect(rig.pool.counts.assigned == 10, "accounted until the pods go")
    for pod in 0..<10 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(300))
    #expect(rig.pool.counts.assigned == 0 && rig.pool.counts.stray == 0)
    #expect(rig.violations == [])
  }

  @Test func whyItDoesNotGrow() {
    var rig = PoolRig(PoolSettings(instanceENILimit: 1, slotsPerENI: 4, warmENITarget: 2))
    #expect(rig.pool.blockedCause(now: rig.now) == .notReady)
    rig.freeAddresses = 0
    rig.start()
    rig.settle()
    guard case .subnetFull(PoolRig.subnet, _) = rig.pool.blockedCause(now: rig.now) else {
      Issue.record("\(String(describing: rig.pool.blockedCause(now: rig.now)))")
      return
    }
    #expect(rig.pool.pausedSubnetIDs == [PoolRig.subnet])
    rig.freeAddresses = 100
    rig.advance(.seconds(200))
    #expect(rig.pool.pausedSubnetIDs == [])
    #expect(rig.pool.blockedCause(now: rig.now)?.label == "eni_limit", "the warm target asks for a second ENI")
    rig.feed(.maxPods(4))
    #expect(rig.pool.blockedCause(now: rig.now) == nil, "no pod could use more")
  }

  /// EC2's listings lag too. The pool does not believe a listing that still shows what it gave back a moment ago:
  /// another node may have those addresses by now. If listings show them for longer, the pool accepts them.
  @Test func aLaggingEC2BringsNothingBack() throws {
    var rig = PoolRig(Self.warmIP)
    rig.start()
    for pod in 0..<6 { rig.add("pod-\(pod)") }
    rig.settle()
    let stale = rig.listing()
    for pod in 0..<6 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(50))
    let held = rig.pool.counts.total
    #expect(held < stale.reduce(0) { $0 + $1.cidrs.count }, "some went back")
    rig.feed(.observed(ENIListing(enis: stale, askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.counts.total == held)
    rig.advance(.seconds(300))
    rig.feed(.observed(ENIListing(enis: stale, askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.counts.total > held)
  }

  @Test func aLaggingEC2BringsNoFreedENIBack() throws {
    var rig = PoolRig(PoolSettings(instanceENILimit: 3, slotsPerENI: 3, warmENITarget: 0))
    rig.start()
    for pod in 0..<5 { rig.add("pod-\(pod)") }
    rig.settle()
    rig.advance(.seconds(70))
    let stale = rig.listing()
    try #require(stale.count == 2)
    for pod in 0..<5 { rig.delete("pod-\(pod)") }
    for _ in 0..<200 where rig.enis.count == 2 { rig.advance(.seconds(1)) }
    try #require(rig.enis.count == 1)
    rig.advance(.seconds(1))
    rig.feed(.observed(ENIListing(enis: stale, askedAt: rig.now, isAuthoritative: true)))
    #expect(rig.pool.counts.enis == 1)
    #expect(rig.violations == [])
  }

  /// A shortage of warm addresses that the pool is about to request does not count as blocked, whatever is cooling down
  /// or full elsewhere.
  @Test func aShortageThatIsGatheredIsNotBlocked() {
    var settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 9, warmPrefixTarget: 1)
    settings.usesPrefixes = true
    var rig = PoolRig(settings)
    rig.start()
    rig.settle()
    for pod in ["a", "b"] { rig.add(pod) }
    rig.delete("a")
    #expect(rig.pool.counts.cooling == 1 && rig.running.isEmpty)
    #expect(rig.pool.blockedCause(now: rig.now) == nil)
    settings.maxENI = 1
    var full = PoolRig(settings)
    full.start()
    full.settle()
    full.add("a")
    #expect(full.pool.blockedCause(now: full.now) == nil, "its one ENI has room")
  }

  /// The first pod has the only address, and the second waits for an ENI that takes a minute to attach.
  private static func waitingForTheLastENI() -> (rig: PoolRig, waiter: WaiterID) {
    var rig = PoolRig(PoolSettings(instanceENILimit: 2, slotsPerENI: 1, warmENITarget: 0))
    rig.start()
    rig.add("first")
    rig.settle()
    rig.latency = .seconds(60)
    let waiter = rig.add("second", timeout: .seconds(20))
    return (rig, waiter)
  }

  /// The last ENI that may be attached is being attached: the waiter is told that, not that the limit is reached.
  @Test func anENIOnItsWayIsNotTheLimit() throws {
    var (rig, waiter) = Self.waitingForTheLastENI()
    rig.advance(.seconds(21))
    let cause = try #require(rig.cause(waiter))
    #expect(
      "\(cause)"
        == "no address within 20 s: EC2 has not answered yet: attach an ENI with 1 addresses in subnet-1, for 20 s")
  }

  /// IMDS shows no tags. After a start without EC2 the pool learns later that an ENI belongs to somebody else, and does
  /// not touch it from then on.
  @Test func anENIThatProvesToBeAnothersIsLeftAlone() throws {
    var rig = PoolRig(Self.warmIP)
    rig.start()
    let waiters = (0..<10).map { rig.add("pod-\($0)") }
    rig.advance(.seconds(300))
    let other = try #require(rig.enis.first { $0.key != PoolRig.primary })
    var seen = rig.listing()
    for index in seen.indices where seen[index].id == other.key { seen[index].isManaged = false }
    rig.feed(.observed(ENIListing(enis: seen, askedAt: rig.now, isAuthoritative: true)))
    #expect(waiters.allSatisfy { rig.address($0) != nil } && rig.pool.counts.assigned == 10)
    for pod in 0..<10 { rig.delete("pod-\(pod)") }
    for _ in 0..<10 {
      rig.advance(.seconds(60))
      var again = rig.listing()
      for index in again.indices where again[index].id == other.key { again[index].isManaged = false }
      rig.feed(.observed(ENIListing(enis: again, askedAt: rig.now, isAuthoritative: true)))
    }
    #expect(rig.enis[other.key]?.cidrs == other.value.cidrs, "neither freed nor emptied")
    let next = (0..<6).map { rig.add("next-\($0)") }
    rig.settle()
    for waiter in next {
      let address = try #require(rig.address(waiter))
      #expect(!other.value.cidrs.contains { $0.contains(address) })
    }
  }

  /// The waiter is told about the call that EC2 throttles.
  @Test func aHeldAttachIsNamed() throws {
    var (rig, waiter) = Self.waitingForTheLastENI()
    let attach = try #require(rig.running.first { if case .attachENI = $0.action { true } else { false } })
    rig.feed(.held(attach.id, call: "AttachNetworkInterface"))
    rig.advance(.seconds(21))
    guard case .deadline(_, let because) = rig.cause(waiter) else {
      Issue.record("\(String(describing: rig.cause(waiter)))")
      return
    }
    #expect(because.hasPrefix("EC2 throttles AttachNetworkInterface"), "\(because)")
  }
}

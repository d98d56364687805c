// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// Custom networking: who owns the addresses of the primary ENI, and how pods move to the subnet of the ENIConfig.
@Suite struct PoolCustomNetworkTests {
  // swift-format-ignore: NeverForceUnwrap
  static let pods = SubnetID("subnet-pods")!
  static let settings = PoolSettings(
    instanceENILimit: 3, slotsPerENI: 4, warmIPTarget: 1, usesCustomNetworking: true)

  private func allocation(_ name: String, _ address: String) throws -> CheckpointAllocation {
    CheckpointAllocation(
      key: PoolRig.key(name), address: try #require(IPAddress(address)), unixNanoseconds: 1,
      pod: PodName(namespace: "default", name: name))
  }

  private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

  /// An address and a prefix that somebody else put on the primary ENI stay there, whatever listings show and for
  /// however long. Addresses that pods had before go back to EC2 when their pods are gone.
  @Test func whatIsNotTheAgentsStays() throws {
    var rig = PoolRig(Self.settings)
    rig.feed(.subnets([Self.pods]))
    let theirs = [try prefix("10.9.0.7/32"), try prefix("10.9.1.0/28")]
    let ours = [try prefix("10.9.0.8/32"), try prefix("10.9.2.0/28")]
    rig.start(
      checkpoint: Checkpoint(allocations: [try allocation("old-a", "10.9.0.8"), try allocation("old-b", "10.9.2.3")]),
      primaryCIDRs: theirs + ours)
    rig.settle()
    let primary = { (rig: PoolRig) in rig.pool.enis.first { $0.eni.isPrimary }?.cidrs.map(\.prefix) }
    #expect(primary(rig) == ours.sorted(), "no part of the pool")
    rig.delete("old-a")
    rig.delete("old-b")
    for _ in 0..<10 {
      rig.advance(.seconds(60))
      rig.observe(isAuthoritative: false)
      rig.observe(isAuthoritative: true)
    }
    #expect(rig.enis[PoolRig.primary]?.cidrs == Set(theirs))
    // An address that appears while the agent runs is not the agent's either, and causes no call.
    rig.addAtEC2(PoolRig.primary, try prefix("10.9.0.99/32"))
    rig.forgetCalls()
    for _ in 0..<5 {
      rig.advance(.seconds(60))
      rig.observe(isAuthoritative: false)
      rig.observe(isAuthoritative: true)
    }
    #expect(rig.enis[PoolRig.primary]?.cidrs.count == 3)
    #expect(rig.calls == [:], "\(rig.calls)")
    let restarted = rig.pool.counts
    rig.restart(seed: 3)
    rig.settle()
    rig.advance(.seconds(600))
    #expect(rig.enis[PoolRig.primary]?.cidrs.count == 3 && rig.pool.counts.total == restarted.total)
    #expect(rig.violations == [])
  }

  /// An address that a pod released just before the agent's restart also belongs to the agent.
  @Test func whatCoolsIsTheAgents() throws {
    var rig = PoolRig(Self.settings)
    rig.feed(.subnets([Self.pods]))
    let cooling = try prefix("10.9.0.8/32")
    let cooldown = CheckpointCooldown(address: cooling.address, untilUnixNanoseconds: 1_700_000_020_000_000_000)
    rig.start(checkpoint: Checkpoint(cooldowns: [cooldown]), primaryCIDRs: [cooling])
    rig.settle()
    rig.advance(.seconds(300))
    #expect(rig.enis[PoolRig.primary]?.cidrs == [])
    #expect(rig.violations == [])
  }

  /// Custom networking was enabled while pods were running. The agent attaches an ENI in the right subnet although the
  /// old ENI has free addresses. New pods use the new ENI; the old ENI is freed with its last pod.
  @Test func outdatedENIsDrain() throws {
    var rig = PoolRig(Self.settings)
    rig.feed(.subnets([Self.pods]))
    let old = try #require(ENIID("eni-old"))
    rig.place(old, device: 1, cidrs: try (1...4).map { try prefix("10.8.0.\($0)/32") })
    rig.start(checkpoint: Checkpoint(allocations: [try allocation("old", "10.8.0.1")]))
    rig.settle()
    rig.advance(.seconds(60))
    #expect(rig.enis.values.contains { $0.subnet == Self.pods }, "before the first new pod")
    #expect(rig.pool.enis.filter(\.isOutdated).map(\.eni.id) == [old])
    let waiters = (0..<4).map { rig.add("new-\($0)") }
    rig.settle()
    let enis = Set(waiters.compactMap { if case .assigned(let its) = rig.answers[$0] { its.eni } else { nil } })
    #expect(enis.count == 1 && !enis.contains(old), "\(enis)")
    rig.delete("old")
    rig.advance(.seconds(300))
    #expect(rig.enis[old] == nil, "it went with its last pod")
    #expect(rig.violations == [])
  }

  /// If no ENI in the right subnet can be attached, pods get addresses of the old subnet: they are better than none.
  @Test(arguments: ["limit", "refused"]) func outdatedENIsAreTheLastResort(_ why: String) throws {
    var settings = Self.settings
    if why == "limit" { settings.maxENI = 2 }
    var rig = PoolRig(settings)
    if why == "refused" {
      rig.fault = {
        guard case .attachENI = $0 else { return nil }
        return .init(failure: ActionFailure(.unauthorized(permission: "ec2:CreateNetworkInterface")))
      }
    }
    rig.feed(.subnets([Self.pods]))
    let old = try #require(ENIID("eni-old"))
    rig.place(old, device: 1, cidrs: [try prefix("10.8.0.1/32")])
    rig.start(checkpoint: Checkpoint(allocations: [try allocation("old", "10.8.0.1")]))
    rig.settle()
    let waiters = (0..<3).map { rig.add("new-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil }, "\(waiters.map { rig.cause($0).map { "\($0)" } ?? "" })")
    #expect(rig.violations == [])
  }

  /// An ENI without pods is replaced by one in the right subnet, although it holds the only addresses of the node.
  @Test func anIdleOutdatedENIIsReplaced() throws {
    var settings = Self.settings
    settings.maxENI = 2
    var rig = PoolRig(settings)
    rig.feed(.subnets([Self.pods]))
    let old = try #require(ENIID("eni-old"))
    rig.place(old, device: 1, cidrs: [try prefix("10.8.0.1/32")])
    rig.start()
    rig.settle()
    rig.advance(.seconds(300))
    #expect(rig.enis[old] == nil && rig.enis.values.contains { $0.subnet == Self.pods })
    #expect(rig.violations == [])
  }

  // MARK: one meaning of free

  /// After a switch to prefixes, the sum and the rows both count addresses that cannot be given out as kept back.
  @Test func freeMeansTheSameEverywhere() throws {
    var settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 9, warmPrefixTarget: 1, usesPrefixes: true)
    settings.cooldown = .seconds(30)
    var rig = PoolRig(settings)
    let pods = try (1...3).map { try allocation("old-\($0)", "10.8.0.\($0)") }
    rig.start(
      checkpoint: Checkpoint(allocations: pods), primaryCIDRs: try (1...6).map { try prefix("10.8.0.\($0)/32") })
    for _ in 0..<40 {
      let counts = rig.pool.counts
      let cidrs = rig.pool.enis.flatMap(\.cidrs)
      let free = cidrs.reduce(0) { $0 + ($1.isUsable ? $1.prefix.count - $1.assigned - $1.cooling : 0) }
      let keptBack = cidrs.reduce(0) { $0 + $1.keptBack }
      #expect(free == counts.free)
      #expect(counts.assigned - counts.stray + counts.cooling + free + keptBack == counts.total)
      rig.advance(.milliseconds(500))
    }
    #expect(rig.pool.enis.contains { $0.cidrs.contains { $0.keptBack > 0 } } == false, "they went back")
    #expect(rig.violations == [])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The pool of an IPv6 cluster: one prefix of the primary ENI, and nothing else.
@Suite struct PoolIPv6Tests {
  static let settings: PoolSettings = {
    let limits = InstanceLimits(eniLimit: 3, ipv4Limit: 10)
    let environment = ["ENABLE_IPv6": "true", "ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"]
    // swift-format-ignore: NeverUseForceTry
    return try! Settings(environment: environment).pool(limits: limits, maxPods: 250)
  }()

  private static let prefix = "2001:db8:0:1::/80"

  private func addresses(_ rig: PoolRig) -> [IPAddress] { rig.inUse.keys.sorted() }

  @Test func onePrefixServesAllPods() throws {
    var rig = PoolRig(Self.settings)
    rig.start()
    for pod in 0..<250 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.inUse.count == 250 && rig.calls == ["assign": 1])
    let first = try #require(IPAddress("2001:db8:0:1::1"))
    #expect(addresses(rig).first == first, "not the routers' anycast address")
    #expect(addresses(rig).last == first.advanced(by: 249))
    #expect(rig.pool.counts.total == 65_535)
    for pod in 0..<250 { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(3600))
    #expect(rig.calls == ["assign": 1], "the prefix stays with its ENI")
    #expect(rig.violations.isEmpty)
  }

  @Test func aPrefixThatIsThereIsUsed() throws {
    var rig = PoolRig(Self.settings)
    let two = try ["2001:db8:0:1::/80", "2001:db8:0:2::/80"].map { try #require(IPPrefix($0)) }
    rig.start(primaryCIDRs: two)
    rig.add("pod")
    rig.settle()
    rig.advance(.seconds(3600))
    #expect(rig.inUse.count == 1 && rig.calls.isEmpty, "the second one is not given back: another program may use it")
  }

  /// A subnet without a free /80, or without IPv6: pods are told, and EC2 is asked again without end.
  @Test func aMissingPrefixIsTriedForWithoutEnd() throws {
    var rig = PoolRig(Self.settings)
    rig.freePrefixes = 0
    rig.start()
    let refused = rig.add("early", timeout: .seconds(5))
    rig.advance(.seconds(3600))
    #expect(rig.cause(refused) != nil)
    #expect(rig.calls["attach"] == nil, "another ENI in the subnet would have none either")
    #expect((40...400).contains(rig.calls["assign"] ?? 0), "\(rig.calls)")
    let causes = (0..<60).compactMap { _ in
      rig.advance(.seconds(1))
      return rig.pool.blockedCause(now: rig.now)
    }
    #expect(causes.contains { "\($0)".contains("no free prefix") }, "\(causes)")
    rig.freePrefixes = 1
    rig.advance(.seconds(120))
    rig.add("late")
    rig.settle()
    #expect(rig.inUse.count == 1)
  }

  /// amazon-vpc-cni-k8s gives out the first address, and any other of the prefix.
  @Test func addressesOfAnEarlierProgramStayWithTheirPods() throws {
    var rig = PoolRig(Self.settings)
    let prefix = try #require(IPPrefix(Self.prefix))
    let old = try ["2001:db8:0:1::", "2001:db8:0:1:0:ffff:0:1"].map { try #require(IPAddress($0)) }
    let allocations = old.enumerated().map { index, address in
      CheckpointAllocation(
        key: PoolRig.key("old-\(index)"), address: address, unixNanoseconds: 1,
        pod: PodName(namespace: "default", name: "old-\(index)"))
    }
    rig.start(checkpoint: Checkpoint(allocations: allocations), primaryCIDRs: [prefix])
    #expect(rig.pool.counts.assigned == 2 && rig.pool.counts.stray == 0)
    for index in 0..<2 { rig.delete("old-\(index)") }
    rig.advance(.seconds(120))
    #expect(rig.pool.counts.assigned == 0 && rig.pool.counts.cooling == 0 && rig.pool.counts.free == 65_535)
    for pod in 0..<40 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.inUse.count == 40 && Set(rig.inUse.keys).isDisjoint(with: old))
    #expect(rig.violations.isEmpty)
  }

  /// EC2 no longer lists the prefix that pods use: they keep their addresses, new pods get one of another prefix.
  @Test func aPrefixThatVanishesKeepsItsPods() throws {
    var rig = PoolRig(Self.settings)
    let prefix = try #require(IPPrefix("2001:db8:0:9::/80"))
    rig.start(primaryCIDRs: [prefix])
    rig.add("before")
    rig.settle()
    rig.advance(.seconds(120))
    rig.removeAtEC2(prefix)
    rig.observe(isAuthoritative: true)
    rig.add("after")
    rig.settle()
    let used = addresses(rig)
    #expect(used.count == 2 && !prefix.contains(used[0]) && prefix.contains(used[1]), "\(used)")
  }
}

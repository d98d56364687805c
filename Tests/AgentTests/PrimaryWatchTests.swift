// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@testable import AgentMode

/// Security groups and VPC CIDRs follow the primary ENI.
@Suite struct PrimaryWatchTests {
  let fixture: CloudFixture
  let applied = Applied()

  final class Applied: Sendable {
    let state = Mutex<(cidrs: [[String]], failures: Int)>(([], 0))
    var cidrs: [[String]] { state.withLock { $0.cidrs } }
  }

  struct Refused: Error {}

  init() async throws {
    let cloud = FakeCloud()
    cloud.change { state in
      for number in 2...4 {
        state.enis["eni-\(number)"] = FakeCloud.ENI(
          id: "eni-\(number)", mac: "02:00:00:00:00:0\(number)", own: "10.0.0.\(number)",
          tags: [ENITags.instanceKey: "i-1"], description: "aws-K8S-i-1", device: number - 1, isMarked: true)
      }
      // One ENI that others created, and one that the agent must not touch.
      state.enis["eni-3"]?.description = ""
      state.enis["eni-3"]?.groups = ["sg-special"]
      state.enis["eni-4"]?.tags[ENITags.unmanagedKey] = "true"
    }
    fixture = try await CloudFixture(cloud)
    _ = try await fixture.enis.describe()
    cloud.forgetCalls()
  }

  private func watch(
    followsGroups: Bool = true, groupsOfOthers: @escaping @Sendable ([String]) -> [String]? = { $0 }
  ) -> PrimaryWatch {
    let applied = applied
    return PrimaryWatch(
      imds: fixture.imds, ec2: fixture.ec2, primary: fixture.identity.primary.mac, family: .ipv4,
      state: fixture.enis.primary, directory: fixture.enis.directory, followsGroups: followsGroups,
      groupsOfOthers: groupsOfOthers,
      applyCIDRs: { cidrs in
        let isRefused = applied.state.withLock { state in
          if state.failures > 0 {
            state.failures -= 1
            return true
          }
          state.cidrs.append(cidrs.map(\.description))
          return false
        }
        if isRefused { throw Refused() }
      }, time: fixture.time.source, logger: fixture.log.logger)
  }

  @Test func quietLookIsTwoRequests() async {
    var round = PrimaryWatch.Round()
    await watch().look(&round)
    fixture.cloud.forgetCalls()
    await watch().look(&round)
    #expect(fixture.cloud.imdsReads.count == 2 && fixture.cloud.actions.isEmpty && applied.cidrs.isEmpty)
    #expect(fixture.cloud.eni("eni-3")?.groups == ["sg-special"], "others' groups stay while the primary's do")
  }

  @Test func changeReachesEveryManagedENI() async throws {
    var round = PrimaryWatch.Round()
    fixture.cloud.change { $0.enis["eni-1"]?.groups = ["sg-2", "sg-3"] }
    await watch().look(&round)
    #expect(fixture.cloud.actions == ["ModifyNetworkInterfaceAttribute", "ModifyNetworkInterfaceAttribute"])
    for (eni, groups) in [("eni-2", ["sg-2", "sg-3"]), ("eni-3", ["sg-2", "sg-3"]), ("eni-4", ["sg-1"])] {
      #expect(fixture.cloud.eni(eni)?.groups == groups, "\(eni)")
    }
    // The calls of many nodes are spread over time.
    #expect(fixture.time.slept.count == 1 && fixture.time.elapsed <= PrimaryWatch.spread)
    // A new ENI has the groups from the start, and nothing remains to be done.
    fixture.cloud.forgetCalls()
    guard case .attached(let eni) = await fixture.enis.attach(fixture.request(device: 7)) else {
      Issue.record("not attached")
      return
    }
    #expect(fixture.cloud.eni(eni.id.text)?.groups == ["sg-2", "sg-3"])
    fixture.cloud.forgetCalls()
    await watch().look(&round)
    #expect(fixture.cloud.actions.isEmpty)
  }

  @Test func failureIsTriedAgainEverMoreSlowly() async throws {
    var round = PrimaryWatch.Round()
    fixture.cloud.change {
      $0.enis["eni-1"]?.groups = ["sg-2"]
      $0.denied = ["ModifyNetworkInterfaceAttribute"]
    }
    var calls: [Int] = []
    for _ in 0..<12 {
      await watch().look(&round)
      fixture.time.advance(PrimaryWatch.interval)
      calls.append(fixture.cloud.actions.count)
    }
    #expect((2...8).contains(fixture.cloud.actions.count), "\(calls)")
    fixture.cloud.change { $0.denied = [] }
    for _ in 0..<30 {
      await watch().look(&round)
      fixture.time.advance(PrimaryWatch.interval)
    }
    #expect(fixture.cloud.eni("eni-2")?.groups == ["sg-2"] && fixture.cloud.eni("eni-3")?.groups == ["sg-2"])
  }

  /// An ENI that was detached meanwhile does not hold up the others.
  @Test func absentENIIsPassedOver() async {
    var round = PrimaryWatch.Round()
    fixture.cloud.change {
      $0.enis["eni-1"]?.groups = ["sg-2"]
      $0.enis["eni-2"] = nil
    }
    await watch().look(&round)
    #expect(fixture.cloud.eni("eni-3")?.groups == ["sg-2"] && round.dueAt == nil)
  }

  /// An agent ended between the change and its calls. The next one corrects the ENIs that agents created; it cannot
  /// know whether the others are wrong.
  @Test func leftoverOfTheLastRun() async throws {
    fixture.cloud.change { $0.enis["eni-2"]?.groups = ["sg-old"] }
    _ = try await fixture.enis.describe()
    fixture.cloud.forgetCalls()
    var round = PrimaryWatch.Round()
    await watch().look(&round)
    #expect(fixture.cloud.eni("eni-2")?.groups == ["sg-1"] && fixture.cloud.actions.count == 1)
  }

  @Test func groupsStayWhereTheyAreNotFollowed() async {
    var round = PrimaryWatch.Round()
    fixture.cloud.change { $0.enis["eni-1"]?.groups = ["sg-2"] }
    await watch(followsGroups: false).look(&round)
    #expect(fixture.cloud.actions.isEmpty && fixture.cloud.imdsReads.count == 1)
  }

  /// With custom networking, the other ENIs have the groups of the ENIConfig. They stay unchanged while the ENIConfig
  /// is unknown.
  @Test func groupsOfAnENIConfigAreFollowed() async {
    var round = PrimaryWatch.Round()
    await watch(groupsOfOthers: { _ in nil }).look(&round)
    #expect(fixture.cloud.actions.isEmpty)
    await watch(groupsOfOthers: { _ in ["sg-7"] }).look(&round)
    #expect(fixture.cloud.eni("eni-2")?.groups == ["sg-7"] && fixture.cloud.eni("eni-1")?.groups == ["sg-1"])
  }

  @Test func vpcCIDRs() async {
    var round = PrimaryWatch.Round()
    fixture.cloud.change { $0.vpcCIDRs = ["10.0.0.0/16", "100.64.0.0/16"] }
    applied.state.withLock { $0.failures = 1 }
    await watch().look(&round)
    #expect(fixture.enis.primary.vpcCIDRs.count == 1, "not before the rules fit")
    await watch().look(&round)
    #expect(applied.cidrs == [["10.0.0.0/16", "100.64.0.0/16"]])
    #expect(fixture.enis.primary.vpcCIDRs.map(\.description) == ["10.0.0.0/16", "100.64.0.0/16"])
    // The order has no meaning.
    fixture.cloud.change { $0.vpcCIDRs = ["100.64.0.0/16", "10.0.0.0/16"] }
    await watch().look(&round)
    #expect(applied.cidrs.count == 1)
  }

  @Test func silentIMDSChangesNothing() async {
    var round = PrimaryWatch.Round()
    fixture.cloud.change { $0.isIMDSDown = true }
    for _ in 0..<3 { await watch().look(&round) }
    #expect(fixture.enis.primary.securityGroups == ["sg-1"] && applied.cidrs.isEmpty)
    #expect(fixture.log.count("cannot read the primary ENI from IMDS") == 1)
    fixture.cloud.change {
      $0.isIMDSDown = false
      $0.enis["eni-1"]?.groups = []
      $0.vpcCIDRs = []
    }
    await watch().look(&round)
    #expect(fixture.enis.primary.securityGroups == ["sg-1"] && applied.cidrs.isEmpty && fixture.cloud.actions.isEmpty)
  }
}

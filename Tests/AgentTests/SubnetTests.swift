// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing
import VPCCloud
import VPCModel

@testable import AgentMode

/// Which subnets new ENIs go to, and when the agent asks again.
@Suite struct SubnetTests {
  private static let role = SubnetChoice.roleKey
  private static let ours = SubnetChoice.clusterPrefix + "blue"
  private static let theirs = SubnetChoice.clusterPrefix + "green"

  /// Tags of a subnet; whether it is used as the primary's, whether as another, and whether it is excluded.
  @Test(
    arguments: [
      ([:], true, false, false), ([role: "0"], false, false, true), ([role: "1"], true, true, false),
      ([role: ""], true, true, false), ([role: "no"], true, true, false), ([ours: "1"], true, false, false),
      ([role: "1", ours: "shared"], true, true, false), ([role: "1", theirs: "1"], false, false, true),
      ([role: "1", theirs: "1", ours: "1"], true, true, false), ([role: "0", ours: "1"], false, false, true),
      ([theirs: "1"], true, false, false),
    ] as [([String: String], Bool, Bool, Bool)])
  func tags(_ tags: [String: String], _ asPrimary: Bool, _ asOther: Bool, _ isExcluded: Bool) async throws {
    let cloud = FakeCloud()
    cloud.change {
      $0.subnets = [
        FakeCloud.Subnet(id: "subnet-1", cidr: "10.0.0.0/20", free: 10, tags: tags),
        FakeCloud.Subnet(id: "subnet-2", cidr: "10.1.0.0/20", free: 20, tags: [Self.role: "1"]),
      ]
    }
    let primary = try await CloudFixture(cloud, clusterName: "blue")
    await primary.enis.subnets.read()
    let asFirst = primary.enis.subnets.choice
    #expect(asFirst.ordered.map(\.text) == (asPrimary ? ["subnet-2", "subnet-1"] : ["subnet-2"]))
    #expect(asFirst.excluded.map(\.text) == (isExcluded ? ["subnet-1"] : []))

    cloud.change {
      $0.subnets = [
        FakeCloud.Subnet(id: "subnet-1", cidr: "10.0.0.0/20", free: 10),
        FakeCloud.Subnet(id: "subnet-2", cidr: "10.1.0.0/20", free: 20, tags: tags),
      ]
    }
    await primary.enis.subnets.read()
    let asSecond = primary.enis.subnets.choice
    #expect(asSecond.ordered.map(\.text) == (asOther ? ["subnet-2", "subnet-1"] : ["subnet-1"]))
    #expect(asSecond.excluded.map(\.text) == (isExcluded ? ["subnet-2"] : []))
  }

  @Test func withoutAClusterNameClusterTagsForbidNothing() async throws {
    let cloud = FakeCloud()
    cloud.change { $0.subnets[0].tags = [Self.role: "1", Self.theirs: "1"] }
    let fixture = try await CloudFixture(cloud)
    await fixture.enis.subnets.read()
    #expect(fixture.enis.subnets.choice.excluded.isEmpty)
  }

  @Test func mostFreeFirstAndCounted() async throws {
    let cloud = FakeCloud()
    cloud.change {
      $0.subnets = [
        FakeCloud.Subnet(id: "subnet-1", cidr: "10.0.0.0/20", free: 5),
        FakeCloud.Subnet(id: "subnet-3", cidr: "10.3.0.0/20", free: 70, tags: [Self.role: "1"]),
        FakeCloud.Subnet(id: "subnet-2", cidr: "10.2.0.0/20", free: 70, tags: [Self.role: "1"]),
        FakeCloud.Subnet(id: "subnet-4", cidr: "10.4.0.0/20", free: 900, tags: [Self.role: "0"]),
        FakeCloud.Subnet(id: "subnet-5", cidr: "10.5.0.0/20", free: 900),
      ]
    }
    let fixture = try await CloudFixture(cloud)
    await fixture.enis.subnets.read()
    #expect(fixture.enis.subnets.choice.ordered.map(\.text) == ["subnet-2", "subnet-3", "subnet-1"])
    #expect(
      fixture.enis.subnets.uses.map { "\($0.id) \($0.freeAddresses ?? -1) \($0.isExcluded)" } == [
        "subnet-2 70 false", "subnet-3 70 false", "subnet-1 5 false", "subnet-4 900 true",
      ])
    let call = try #require(fixture.cloud.calls("DescribeSubnets").first)
    #expect(call.fields["Filter.1.Value.1"] == "vpc-1" && call.fields["Filter.2.Value.1"] == "us-east-1a")
    #expect(fixture.cloud.calls("DescribeSubnets").count == 1)
  }

  /// A node may not grow at all: the pod's error says why, and the agent makes no EC2 call.
  @Test func everythingExcluded() async throws {
    let cloud = FakeCloud()
    cloud.change { $0.subnets[0].tags = [Self.role: "0"] }
    let fixture = try await CloudFixture(cloud)
    await fixture.enis.subnets.read()
    #expect(fixture.enis.subnets.choice.ordered.map(\.text) == ["subnet-1"])
    fixture.cloud.forgetCalls()
    guard case .failed(let failure) = await fixture.enis.attach(fixture.request()) else {
      Issue.record("attached in an excluded subnet")
      return
    }
    #expect("\(failure)".contains("subnet-1 is excluded by its tags"))
    #expect(fixture.cloud.actions.isEmpty)
    // The next listing reports ENIs in that subnet as excluded.
    #expect(try await fixture.enis.describe().first?.isExcluded == true)
  }

  @Test func primaryOfAnotherAccountIsUsed() async throws {
    let cloud = FakeCloud()
    cloud.change { $0.subnets = [FakeCloud.Subnet(id: "subnet-2", cidr: "10.1.0.0/20", tags: [Self.role: "1"])] }
    cloud.change { $0.subnets.append(FakeCloud.Subnet(id: "subnet-1", cidr: "10.0.0.0/20")) }
    let fixture = try await CloudFixture(cloud)
    cloud.change { $0.subnets.removeLast() }
    await fixture.enis.subnets.read()
    #expect(fixture.enis.subnets.choice.ordered.map(\.text) == ["subnet-2", "subnet-1"])
  }

  @Test func forbiddenGoesOnWithThePrimary() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { $0.denied = ["DescribeSubnets"] }
    for _ in 0..<4 { await fixture.enis.subnets.read() }
    #expect(fixture.enis.subnets.choice == SubnetChoice(primary: fixture.identity.primarySubnet))
    #expect(fixture.log.count("ec2:DescribeSubnets") == 1, "said once")
    fixture.cloud.change { $0.denied = [] }
    await fixture.enis.subnets.read()
    #expect(fixture.log.count("EC2 lists subnets again") == 1 && fixture.enis.subnets.uses.count == 1)
  }

  @Test func discoveryOffAsksNothing() async throws {
    let fixture = try await CloudFixture(discovers: false)
    await fixture.enis.subnets.read()
    fixture.enis.subnets.hint(.full)
    #expect(fixture.cloud.actions.isEmpty && fixture.enis.subnets.uses.isEmpty)
  }

  /// Without growth the agent reads nothing. It reads on growth after five minutes, or when a subnet is full. After
  /// failures it reads less and less often.
  @Test func rhythm() {
    let start = ContinuousClock.now
    var rhythm = SubnetRhythm()
    #expect(rhythm.isDue(.growing, start))
    rhythm.began()
    #expect(!rhythm.isDue(.growing, start) && !rhythm.isDue(.full, start), "the first listing is under way")
    rhythm.succeeded(start)
    for (hint, age, isDue) in [
      (SubnetRhythm.Hint.growing, 0, false), (.growing, 299, false), (.growing, 300, true), (.full, 29, false),
      (.full, 30, true),
    ] {
      #expect(rhythm.isDue(hint, start.advanced(by: .seconds(age))) == isDue, "\(hint) at \(age) s")
    }
    let waits = (0..<6).map { _ in
      rhythm.began()
      return rhythm.failed(start, random: 0.5)
    }
    #expect(waits == [60, 240, 960, 3600, 3600, 3600].map { .seconds($0) })
    #expect(!rhythm.isDue(.full, start.advanced(by: .seconds(3599))))
    #expect(rhythm.isDue(.growing, start.advanced(by: .seconds(3600))))
    rhythm.succeeded(start)
    #expect(rhythm.retryAt == nil && rhythm.failed(start, random: 0) == .seconds(45))
  }

  /// The listener is told of a choice that was read before it listened. It reads on its own when a subnet is full.
  @Test func listener() async throws {
    let fixture = try await CloudFixture(time: VirtualTime(isAutomatic: false))
    let subnets = fixture.enis.subnets
    let first = subnets.choice
    await subnets.read()
    let told = LogRecorder()
    let running = Task {
      await subnets.run(from: first) { old, new in
        told.logger.info("\(old.uses.compactMap(\.freeAddresses)) \(new.uses.compactMap(\.freeAddresses))")
      }
    }
    try await eventually("the first choice") { told.count("[] [100]") == 1 }
    fixture.cloud.change { $0.subnets[0].free = 7 }
    subnets.hint(.full)  // too soon: the list was just read
    fixture.time.advance(.seconds(31))
    try await eventually("the second choice") {
      subnets.hint(.full)
      return told.count("[100] [7]") == 1
    }
    #expect(fixture.cloud.calls("DescribeSubnets").count == 2)
    running.cancel()
    await running.value
  }
}

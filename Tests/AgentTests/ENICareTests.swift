// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing
import VPCCloud
import VPCModel

@testable import AgentMode

/// ENIs that others created or that an agent left incomplete, and the modes in which the agent makes fewer EC2 calls.
@Suite struct ENICareTests {
  private func foreign(_ tags: [String: String] = [:]) -> FakeCloud {
    let cloud = FakeCloud()
    cloud.change {
      $0.enis["eni-2"] = FakeCloud.ENI(
        id: "eni-2", mac: "02:00:00:00:00:02", own: "10.0.0.20", singles: ["10.0.0.21"], tags: tags, device: 1,
        isMarked: true)
    }
    return cloud
  }

  @Test func adoptedENIGetsItsTags() async throws {
    let fixture = try await CloudFixture(foreign(), clusterName: "blue")
    #expect(try await fixture.enis.describe().filter(\.isManaged).count == 2)
    var told: Set<ENIID> = []
    #expect(await fixture.enis.care(&told))
    #expect(
      fixture.cloud.eni("eni-2")?.tags == [
        "node.k8s.amazonaws.com/instance_id": "i-1", "cluster.k8s.amazonaws.com/name": "blue",
        "eks:eni:owner": "amazon-vpc-cni",
      ])
    fixture.cloud.forgetCalls()
    _ = try await fixture.enis.describe()
    #expect(await fixture.enis.care(&told))
    #expect(fixture.cloud.actions == ["DescribeNetworkInterfaces"], "tagged once")
  }

  /// Without permission to tag, the only consequence is one log line.
  @Test func forbiddenTagsAreToldOnce() async throws {
    let fixture = try await CloudFixture(foreign())
    fixture.cloud.change { $0.denied = ["CreateTags"] }
    #expect(try await fixture.enis.describe().count == 2)
    var told: Set<ENIID> = []
    for _ in 0..<3 { #expect(await !fixture.enis.care(&told)) }
    #expect(fixture.log.count("cannot tag an ENI") == 1)
  }

  @Test(
    arguments: [
      ([ENITags.unmanagedKey: "true"], true, false), ([ENITags.unmanagedKey: "false"], true, true), ([:], true, true),
      ([:], false, false), ([ENITags.instanceKey: "i-1"], false, true), ([ENITags.instanceKey: "i-0"], false, false),
      ([ENITags.instanceKey: "i-1", ENITags.unmanagedKey: "true"], true, false),
    ] as [([String: String], Bool, Bool)])
  func whatIsManaged(_ tags: [String: String], _ managesUntagged: Bool, _ isManaged: Bool) async throws {
    let fixture = try await CloudFixture(foreign(tags), mode: NodeENIs.Mode(managesUntagged: managesUntagged))
    let listed = try await fixture.enis.describe()
    #expect(listed.first { $0.id.text == "eni-2" }?.isManaged == isManaged)
    #expect(listed.first { $0.id.text == "eni-1" }?.isManaged == true, "the primary always")
    if !isManaged {
      #expect(fixture.enis.directory.entry(for: try CloudFixture.eni("eni-2"))?.missingTags.isEmpty == true)
    }
  }

  /// After a start with IMDS alone, the agent queries EC2 until it answers. The answer adds what IMDS does not know.
  @Test func startWithoutEC2IsMadeGood() async throws {
    let fixture = try await CloudFixture(foreign())
    fixture.cloud.change { $0.denied = ["DescribeNetworkInterfaces"] }
    _ = try await fixture.enis.describe(from: fixture.imds)
    let cloud = fixture.cloud
    let told = LogRecorder()
    let asking = Task {
      await fixture.enis.listUntilKnown { told.logger.info("\($0.enis.map(\.id.text)) \($0.isAuthoritative)") }
    }
    try await eventually("three tries") { cloud.actions.count >= 3 }
    cloud.change { $0.denied = [] }
    await asking.value
    #expect(told.count(#"["eni-1", "eni-2"] true"#) == 1 && told.all.count == 1)
    #expect(fixture.enis.directory.entry(for: try CloudFixture.eni("eni-2"))?.attachmentID == "eni-attach-eni-2")
    #expect(fixture.time.slept.allSatisfy { $0 <= .seconds(700) })
  }

  @Test func withoutProvisioningNothingIsTaggedOrMarked() async throws {
    let cloud = foreign()
    cloud.change { $0.enis["eni-2"]?.isMarked = false }
    let fixture = try await CloudFixture(cloud, mode: NodeENIs.Mode(provisions: false))
    #expect(try await fixture.enis.describe().count == 2)
    #expect(fixture.enis.directory.entries.values.filter(\.needsCare).isEmpty)
  }

  @Test func imdsOnlyNeverDescribesInterfaces() async throws {
    let fixture = try await CloudFixture(foreign(), mode: NodeENIs.Mode(asksIMDSOnly: true))
    guard case .listed(let listing) = await fixture.enis.list() else {
      Issue.record("not listed")
      return
    }
    #expect(listing.isAuthoritative && listing.enis.map(\.id.text) == ["eni-1", "eni-2"])
    #expect(listing.enis.last?.cidrs.map(\.description) == ["10.0.0.21/32"])
    // The pool does not apply the listing to its own changes within IMDS's lag.
    #expect(PoolClock.now().instant - listing.askedAt >= ENIDirectory.imdsLag)
    #expect(fixture.cloud.actions.isEmpty)
    // Freeing an ENI that only IMDS has shown does not need DescribeNetworkInterfaces either.
    guard case .done = await fixture.enis.free(try CloudFixture.eni("eni-2")) else {
      Issue.record("not freed")
      return
    }
    #expect(fixture.cloud.actions == ["DescribeInstances", "DetachNetworkInterface", "DeleteNetworkInterface"])
  }

  /// After a change the listing waits until IMDS must have caught up.
  @Test func imdsOnlyWaitsForIMDS() async throws {
    let fixture = try await CloudFixture(foreign(), mode: NodeENIs.Mode(asksIMDSOnly: true))
    fixture.enis.directory.noteChange()
    guard case .listed = await fixture.enis.list() else {
      Issue.record("not listed")
      return
    }
    let slept = try #require(fixture.time.slept.first)
    #expect(slept > .seconds(30) && slept <= ENIDirectory.imdsLag)
  }

  /// EC2 and IMDS both show an ENI's VPC. An ENI of another VPC than the node's takes a slot but is not managed; the
  /// log says so once.
  @Test func anENIOfAnotherVPCIsLeftAlone() async throws {
    let fixture = try await CloudFixture(clusterName: "blue")
    fixture.cloud.change {
      $0.enis["eni-far"] = FakeCloud.ENI(
        id: "eni-far", mac: "02:00:00:00:00:09", vpc: "vpc-9", own: "10.0.0.90", singles: ["10.0.0.91"], device: 1)
    }
    for _ in 0..<2 {
      let byEC2 = try await fixture.enis.describe().first { $0.id.text == "eni-far" }
      let byIMDS = try await fixture.enis.describe(from: fixture.imds).first { $0.id.text == "eni-far" }
      #expect(byEC2?.isManaged == false && byIMDS?.isManaged == false)
    }
    #expect(fixture.enis.directory.entry(for: try CloudFixture.eni("eni-far"))?.needsCare == false)
    #expect(fixture.log.count("ENI is in a different VPC than the node") == 1)
  }
}

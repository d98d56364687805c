// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCModel
import VPCTransport

@testable import AgentMode

/// Which ENIs the sweep deletes, and how often a cluster is swept.
@Suite struct LeakedENISweepTests {
  // swift-format-ignore: NeverForceUnwrap
  private static let now = UTCTime(iso8601: "2026-03-01T12:00:00Z")!

  private func leaked(
    _ id: String, created: String? = "2026-03-01T10:00:00Z", description: String = "aws-K8S-i-9",
    _ change: (inout FakeCloud.ENI) -> Void = { _ in }
  ) -> FakeCloud.ENI {
    var eni = FakeCloud.ENI(id: id, mac: "02:00:00:00:02:01", own: "10.0.0.99", description: description)
    eni.tags = [ENITags.instanceKey: "i-9", ENITags.clusterKey: "blue"]
    eni.tags[ENITags.createdKey] = created
    change(&eni)
    return eni
  }

  /// The sweep uses EC2's clock: the clock of this machine shows another year.
  private func sweep(_ fixture: CloudFixture, clusterName: String = "blue") -> LeakedENISweep {
    fixture.cloud.change { $0.date = $0.date ?? Self.now }
    return LeakedENISweep(
      ec2: fixture.ec2, vpcID: "vpc-1", clusterName: clusterName, time: fixture.time.source, logger: fixture.log.logger)
  }

  @Test func onlyWhatIsLeakedGoes() async throws {
    let fixture = try await CloudFixture()
    let others = [
      leaked("eni-young", created: "2026-03-01T11:56:00Z"), leaked("eni-future", created: "2026-03-02T00:00:00Z"),
      leaked("eni-named", description: "my own"), leaked("eni-untagged") { $0.tags[ENITags.instanceKey] = nil },
      leaked("eni-green") { $0.tags[ENITags.clusterKey] = "green" }, leaked("eni-inuse") { $0.device = 1 },
    ]
    fixture.cloud.change { state in
      for eni in others { state.enis[eni.id] = eni }
      for id in ["eni-a", "eni-b"] { state.enis[id] = leaked(id) }
      state.enis["eni-exact"] = leaked("eni-exact", created: "2026-03-01T11:55:00Z")
    }
    let outcome = await sweep(fixture).sweep()
    #expect(outcome.deleted.map(\.text) == ["eni-a", "eni-b", "eni-exact"])
    #expect(outcome.tagged.isEmpty && outcome.failed.isEmpty)
    for eni in others { #expect(fixture.cloud.eni(eni.id) != nil, "\(eni.id)") }
    let call = try #require(fixture.cloud.calls("DescribeNetworkInterfaces").first)
    #expect(call.fields["MaxResults"] == "1000")
    // Without a cluster name the sweep covers the whole VPC.
    #expect(await sweep(fixture, clusterName: "").sweep().deleted.map(\.text) == ["eni-green"])
  }

  /// An ENI without a usable creation time gets one, and its age counts from then on.
  @Test(arguments: [nil, "yesterday", ""]) func ageOfTheUntagged(_ created: String?) async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { $0.enis["eni-a"] = leaked("eni-a", created: created) }
    #expect(await sweep(fixture).sweep().tagged.map(\.text) == ["eni-a"])
    #expect(fixture.cloud.eni("eni-a")?.tags[ENITags.createdKey] == "2026-03-01T12:00:00Z")
    #expect(await sweep(fixture).sweep() == LeakedENISweep.Outcome(), "too young now")
    fixture.cloud.change { $0.date = Self.now.advanced(by: 3600) }
    #expect(await sweep(fixture).sweep().deleted.map(\.text) == ["eni-a"])
  }

  @Test func anotherNodeWasFaster() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { state in for id in ["eni-a", "eni-b"] { state.enis[id] = leaked(id) } }
    fixture.cloud.fail("DeleteNetworkInterface", "InvalidNetworkInterfaceID.NotFound")
    fixture.cloud.fail("DeleteNetworkInterface", "InvalidNetworkInterface.InUse")
    let outcome = await sweep(fixture).sweep()
    #expect(outcome.failed.isEmpty && fixture.log.count("cannot delete a leaked ENI") == 0)
  }

  /// EC2 throttles: the sweep skips the rest at once.
  @Test func throttledSweepStops() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { state in for number in 0..<20 { state.enis["eni-a\(number)"] = leaked("eni-a\(number)") } }
    fixture.cloud.fail("DeleteNetworkInterface", "RequestLimitExceeded", times: 100, status: 503)
    #expect(await sweep(fixture).sweep().failed.count == 1)
    #expect(fixture.cloud.calls("DeleteNetworkInterface").count == 1)
    fixture.cloud.change { $0.denied = ["DescribeNetworkInterfaces"] }
    #expect(await sweep(fixture).sweep() == LeakedENISweep.Outcome())
    #expect(fixture.log.count("cannot list leaked ENIs; will retry at the next sweep") == 1)
  }

  @Test func nodesAreCounted() async throws {
    let fixture = try await CloudFixture()
    fixture.cloud.change { state in
      for node in 0..<7 {
        for device in 0..<3 {
          var eni = leaked("eni-n\(node)d\(device)") { $0.device = device }
          eni.instance = "i-\(node)"
          eni.tags[ENITags.instanceKey] = "i-\(node)"
          state.enis[eni.id] = eni
        }
      }
      // A leaked ENI does not count as a node.
      state.enis["eni-x"] = leaked("eni-x")
    }
    #expect(await sweep(fixture).nodes() == 7)
    fixture.cloud.change { $0.denied = ["DescribeNetworkInterfaces"] }
    #expect(await sweep(fixture).nodes() == nil)
  }

  /// 500 nodes start together. After each node's first sweep, the cluster is swept about once an hour.
  @Test(arguments: [1, 3, 50, 500]) func onceAnHourACluster(_ nodes: Int) {
    var random = SplitMix64(seed: UInt64(nodes))
    let draw = { () -> Double in Double.random(in: 0..<1, using: &random) }
    func hours(_ duration: Duration) -> Double { duration / .seconds(3600) }
    var due = (0..<nodes).map { _ in hours(SweepRhythm.first(random: draw())) }
    let (from, until) = (200.0, 200.0 + 5000.0)
    var byHour: [Int: Int] = [:]
    var total = 0
    for node in due.indices {
      while due[node] < until {
        if due[node] >= from {
          total += 1
          byHour[Int(due[node]), default: 0] += 1
        }
        due[node] += hours(SweepRhythm.next(nodes: nodes, random: draw()))
      }
    }
    let rate = Double(total) / (until - from)
    // The first sweeps do not know the size of the cluster and synchronise no nodes: 500 nodes take long to settle.
    #expect((0.85...1.15).contains(rate), "\(rate) sweeps an hour")
    #expect((byHour.values.max() ?? 0) <= 9)
  }

  @Test func waitsHaveTheirBounds() {
    #expect(SweepRhythm.first(random: 0) == .seconds(300) && SweepRhythm.next(nodes: 1, random: 0.99) == .seconds(3600))
    for random in [0, 0.3, 0.999999] {
      #expect(SweepRhythm.first(random: random) >= .seconds(300))
      for nodes in [0, 1, 100] { #expect(SweepRhythm.next(nodes: nodes, random: random) >= .seconds(3600)) }
    }
  }
}

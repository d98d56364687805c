// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCLinux
import VPCModel
import VPCTransport

@testable import AgentMode

/// All background work of an agent on a clock that runs fast: what an idle node costs.
@Suite struct IdleNodeTests {
  private func settings(_ environment: [String: String] = [:]) throws -> Settings {
    try Settings(environment: environment)
  }

  /// Runs the background work for some virtual time and returns the EC2 calls that it made.
  private func calls(over hours: Int, seed: UInt64, _ environment: [String: String] = [:]) async throws -> [String] {
    let cloud = FakeCloud()
    cloud.change {
      $0.enis["eni-1"]?.singles = (11...19).map { "10.0.0.\($0)" }
      $0.enis["eni-2"] = FakeCloud.ENI(
        id: "eni-2", mac: "02:00:00:00:00:02", own: "10.0.0.20", singles: (21...29).map { "10.0.0.\($0)" },
        tags: [ENITags.instanceKey: "i-1"], description: "aws-K8S-i-1", device: 1, isMarked: true)
    }
    let time = VirtualTime(seed: seed, isAutomatic: false)
    let fixture = try await CloudFixture(cloud, time: time)
    let settings = try settings(environment)
    await fixture.enis.subnets.read()
    let folder = try TemporaryFolder()
    let pool = try AddressPool(
      pool: Pool(settings: PoolSettings(instanceENILimit: 3, slotsPerENI: 9, maxPods: 29), seed: seed),
      operations: FakeENIs(eniLimit: 3, slots: 9), checkpoint: CheckpointFile(path: "\(folder.path)/ipam.json"),
      logger: fixture.log.logger)
    var attached = try await fixture.enis.describe()
    for index in attached.indices { attached[index].isWired = true }
    await pool.start(PoolStart(enis: attached))
    cloud.forgetCalls()
    let work = BackgroundWork(
      settings: settings, enis: fixture.enis, pool: pool, network: fixture.enis.network,
      knownSubnets: fixture.enis.subnets.choice, isListed: true,
      cluster: ClusterFollower(
        state: ClusterState(), customNetwork: nil, enis: fixture.enis, pool: pool, logger: fixture.log.logger),
      toldByCluster: ClusterFollower.Told(), metrics: AgentMetrics(), watch: nil, repairs: nil, time: time.source,
      logger: fixture.log.logger)
    let running = Task { await work.run() }
    // The two watches and the sweep sleep; the other tasks wait for events.
    let sleepers = settings.cleansLeakedENIs ? 3 : 2
    while time.elapsed < .seconds(3600 * hours) { try await time.step(sleepers: sleepers) }
    running.cancel()
    await running.value
    await pool.shutDown(within: .seconds(1))
    #expect(!cloud.imdsReads.isEmpty)
    return cloud.actions
  }

  @Test(arguments: [1, 2, 3] as [UInt64]) func anHourOfIdlingIsAtMostTwoCalls(_ seed: UInt64) async throws {
    let calls = try await calls(over: 1, seed: seed)
    #expect(calls.count <= 2 && Set(calls).isSubset(of: ["DescribeNetworkInterfaces"]), "\(calls)")
  }

  /// The sweep and the count of nodes after it, once an hour: in a cluster of one node, no other node sweeps.
  @Test func hoursOfIdling() async throws {
    let calls = try await calls(over: 4, seed: 4)
    #expect((4...8).contains(calls.count) && Set(calls) == ["DescribeNetworkInterfaces"], "\(calls.count)")
  }

  @Test(arguments: ["DISABLE_LEAKED_ENI_CLEANUP", "DISABLE_NETWORK_RESOURCE_PROVISIONING", "ENABLE_IMDS_ONLY_MODE"])
  func withoutTheSweepNothingIsAsked(_ name: String) async throws {
    #expect(try await calls(over: 3, seed: 5, [name: "true"]).isEmpty)
  }
}

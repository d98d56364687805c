// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

extension Agent {
  /// How long a node without pods waits for the list of subnets.
  private static let subnetsLimit = Duration.seconds(2)

  /// The pool has started with the living pods.
  struct Restored {
    let pool: AddressPool
    let restoration: Restoration
    /// The attached ENIs.
    let enis: Int
    let isListedByEC2: Bool
    /// As told to the pool.
    let subnets: SubnetChoice
    let follower: ClusterFollower
    let toldByCluster: ClusterFollower.Told
  }

  func restore(_ prepared: Prepared, on node: Identified) async throws -> Restored {
    let (enis, cluster) = (node.enis, node.cluster)
    let restoration = try await restorePods(prepared.saved, node.network)
    _ = try await prepared.hostRules.value

    let poolSettings = settings.pool(limits: node.capacity.limits, maxPods: node.capacity.maxPods)
    let pool = try AddressPool(
      pool: Pool(settings: poolSettings, seed: UInt64.random(in: 0...UInt64.max)), operations: enis,
      checkpoint: prepared.saved.file, logger: logger, metrics: metrics)
    // A new node must not take addresses of an excluded subnet. One with pods has warm addresses, and serves at once.
    if prepared.isListedByEC2, restoration.checkpoint.allocations.isEmpty {
      await enis.subnets.awaitFirst(within: Agent.subnetsLimit)
    }
    let subnets = enis.subnets.choice
    var attached = prepared.attached
    for index in attached.indices { attached[index].isExcluded = subnets.excluded.contains(attached[index].subnet) }
    if cluster.customNetwork == nil { await pool.tell(.subnets(subnets.ordered)) }
    await cluster.awaitWhatIsNeeded(attached: attached)
    let follower = cluster.follower(enis, pool)
    var told = ClusterFollower.Told(maxPods: node.capacity.maxPods)
    await follower.follow(&told)
    cluster.restored(restoration.checkpoint)
    // IMDS lags, and only the checkpoint knows recent unassigns.
    let restsUnproven =
      (!prepared.isListedByEC2 || settings.usesIMDSOnly) && !prepared.saved.isSound && prepared.wasManaged
    var begin = PoolStart(enis: attached, checkpoint: restoration.checkpoint, restsUnproven: restsUnproven)
    begin.contested = prepared.contested
    await pool.start(begin)
    return Restored(
      pool: pool, restoration: restoration, enis: attached.count, isListedByEC2: prepared.isListedByEC2,
      subnets: subnets, follower: follower, toldByCluster: told)
  }

  private func restorePods(_ saved: SavedState, _ network: NodeNetwork) async throws -> Restoration {
    let veths = try await network.podVeths()
    let restoration = Restoration(
      checkpoint: saved.checkpoint, isSound: saved.isSound,
      podRoutes: try await network.podRoutes(to: veths), veths: veths, unixNanoseconds: PoolClock.now().unixNanoseconds,
      cooldown: settings.cooldown)
    try await network.restorePods(restoration.routes)
    let strangers = restoration.checkpoint.allocations.filter { $0.address.family != settings.family }
    if !strangers.isEmpty {
      logger.warning(
        "pods of the other address family are running; they keep their network until they end",
        metadata: [
          "pods": "\(strangers.prefix(20).map { "\($0.pod) \($0.address)" })", "count": "\(strangers.count)",
          "remedy": "a cluster cannot change its family: set ENABLE_IPv4 and ENABLE_IPv6 back, or drain the node",
        ])
    }
    for remains in restoration.gone { network.removeHostVethSoon(remains) }
    if !restoration.gone.isEmpty || !restoration.recovered.isEmpty {
      logger.notice(
        "pods changed while the agent was down",
        metadata: ["gone": "\(restoration.gone.map(\.address))", "recovered": "\(restoration.recovered)"])
    }
    return restoration
  }
}

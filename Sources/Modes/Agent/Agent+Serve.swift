// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCRPC
internal import VPCSystem
internal import VPCTransport

extension Agent {
  /// The parts that live from start to stop.
  struct Serving {
    let pool: AddressPool
    let server: RPCServer
    let health: HealthStatus
    /// The first subnet listing, the second check of recent entries, and the background work.
    let tasks: [Task<Void, Never>]
    /// Metrics and introspection; runs until cancelled.
    let observation: Task<Void, Never>
  }

  func serve(
    _ restored: Restored, on node: Identified, since began: ContinuousClock.Instant
  ) async throws -> Serving {
    let (pool, network, enis, cluster) = (restored.pool, node.network, node.enis, node.cluster)
    // An IPv4 node grows under its first pods. Without its one prefix an IPv6 node can run none, and is not ready.
    let hasAddresses = await pool.counts.total > 0
    let isReady = settings.family == .ipv4 || hasAddresses
    let health = HealthStatus(isReady ? .serving : .notServing)
    let server = try await openServer(pool, network, enis, health, cluster.podObserver)
    logger.notice(
      "ready",
      metadata: [
        "instance": "\(node.identity.instance.instanceID)", "type": "\(node.identity.instance.instanceType)",
        "enis": "\(restored.enis)", "pods": "\(restored.restoration.checkpoint.allocations.count)",
        "after": "\(began.duration(to: .now).brief)",
      ])
    metrics.started(
      version: settings.version, knowsNode: cluster.state.content.node != nil, after: began.duration(to: .now))
    let services = ObservationServices(
      settings: settings, limits: descriptors.httpLimits, pool: pool, metrics: metrics,
      subnets: { enis.subnets.uses },
      eniConfigName: { cluster.state.content.eniConfigName }, report: statusReport(pool, network, enis, cluster, began),
      logger: logger)
    let observation = Task { await services.run(beside: server) }
    // First after "ready": addresses wait for it.
    let secondLook = Task { await lookAgain(at: restored.restoration.unproven, pool, network) }
    let filling = Task {
      guard !isReady else { return }
      logger.warning("no IPv6 prefix yet; the node is not ready, will retry")
      guard await pool.awaitAddresses() else { return }
      health.set(.serving)
      logger.notice("IPv6 prefix assigned; the node is ready", metadata: ["after": "\(began.duration(to: .now).brief)"])
    }
    // No waiting pod needs it, so it runs last.
    let work = BackgroundWork(
      settings: settings, enis: enis, pool: pool, network: network, knownSubnets: restored.subnets,
      isListed: restored.isListedByEC2, cluster: restored.follower, toldByCluster: restored.toldByCluster,
      metrics: metrics, watch: node.watch, repairs: repairs, podObserver: cluster.podObserver, time: .system,
      logger: logger)
    return Serving(
      pool: pool, server: server, health: health, tasks: node.tasks + [secondLook, filling, Task { await work.run() }],
      observation: observation)
  }

  private func openServer(
    _ pool: AddressPool, _ network: NodeNetwork, _ enis: NodeENIs, _ health: HealthStatus, _ observer: PodObserver
  ) async throws -> RPCServer {
    let facts = CNIBackend.Facts(
      usesExternalSNAT: settings.usesExternalSNAT, vpcCIDRs: { enis.primary.vpcCIDRs },
      networkPolicyMode: settings.networkPolicyMode, podRouteTable: await network.podRouteTable,
      addTimeout: settings.addTimeout)
    var methods = RPCMethodTable()
    methods.add(
      CNIBackend(
        pool: pool, facts: facts, metrics: metrics, observer: observer, removeSoon: network.removeHostVethSoon,
        removalSettled: network.hostSideSettled))
    methods.add(
      PolicySettings(mode: settings.networkPolicyMode, usesAllCards: settings.usesAllCards, identity: enis.identity))
    methods.add(health)
    methods.addReflection()
    return try await RPCServer.start(path: Agent.socketPath, methods: methods, limits: descriptors.rpcLimits)
  }

  private func statusReport(
    _ pool: AddressPool, _ network: NodeNetwork, _ enis: NodeENIs, _ cluster: Cluster,
    _ began: ContinuousClock.Instant
  ) -> StatusReport {
    let instance = enis.identity.instance
    let node = AgentStatus.Process(
      instance: instance.instanceID, instanceType: instance.instanceType, zone: instance.availabilityZone,
      commit: BuildFacts.own.commit)
    let kernel = KernelLook {
      await AgentStatus.Kernel(network: network, firewall: firewall.backend, repairs: repairs.report)
    }
    return StatusReport(
      settings: settings, pool: pool, node: node, began: began, directory: enis.directory,
      subnets: { enis.subnets.uses }, subnetsAge: { enis.subnets.age }, calls: { calls.calls },
      kernel: { await kernel.status() }, cluster: { cluster.state.status(nodeName: settings.nodeName) })
  }

  /// Releases the addresses of attachments whose veth never appeared: their plugin died with the agent, or their pod
  /// ended meanwhile.
  private func lookAgain(at entries: [Restoration.Unproven], _ pool: AddressPool, _ network: NodeNetwork) async {
    guard !entries.isEmpty else { return }
    do {
      try await Task.sleep(for: Restoration.youth)
      let veths = try await network.podVeths()
      for entry in entries where veths[entry.vethSuffix] == nil { _ = await pool.delete(entry.key) }
    } catch is CancellationError {
      return  // the agent stops; the next start checks them
    } catch {
      logger.warning(
        "cannot check recent checkpoint entries; keeping them", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The agent's lifecycle, in order. Each step needs the one before it.
//
//   cluster    the API server, in parallel with all that follows                  see Kube/ClusterLink.swift
//   identify   IMDS: instance, primary ENI; limits of the instance type           retried until IMDS answers
//   list       EC2: all attached ENIs, one call; subnets in parallel              IMDS only if EC2 does not answer
//   prepare    kernel: rules 512 and 1024, the source map of all ENIs, SNAT
//   restore    checkpoint compared with the kernel: which pods are alive
//   start      the pool: sets up every ENI, grows
//   serve      the socket; from here on the probes say SERVING
//   show       metrics, introspection, log compression: nothing waits for them
//   background BackgroundWork: subnets, reconciliation, groups, tags, leaked-ENI sweep
//   stop       SIGTERM: no more growth, requests in flight are answered, at most 5 s
//
// See also: AddressPool (what happens to an ADD), NodeNetwork (the kernel), NodeENIs (EC2).

internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCRPC
internal import VPCSystem
internal import VPCTransport

/// One run of the agent on one node.
struct Agent {
  /// The socket path that the plugin uses.
  static let socketPath = "/var/run/aws-node/ipamd.sock"
  /// Limit for the whole shutdown, within the pod's termination grace period of 10 s.
  private static let stopLimit = Duration.seconds(4)
  /// How long the start waits for the xtables lock; after that nftables is used until the lock is free.
  private static let lockWaitSeconds = 5
  /// How long the start waits for a previous agent to exit: one that is stopping, or one that was killed and whose
  /// socket the kernel has not closed yet.
  private static let predecessorLimit = Duration.seconds(10)
  /// How long a node without pods waits for the list of subnets.
  private static let subnetsLimit = Duration.seconds(2)

  let settings: Settings
  let environment: [String: String]
  let descriptors: DescriptorBudget
  let logger: Logger
  let metrics: AgentMetrics
  let calls = EC2Ledger()
  let firewall = FirewallLedger()
  let repairs = RepairRecord()

  /// The parts that live from start to stop.
  private struct Parts {
    let pool: AddressPool
    let server: RPCServer
    let health: HealthStatus
    /// The first subnet listing, the second check of recent entries, and the background work.
    let tasks: [Task<Void, Never>]
    /// Metrics and introspection; runs until cancelled.
    let observation: Task<Void, Never>
  }

  /// Starts, serves until the task is cancelled, and stops in order.
  ///
  /// - Returns: the exit status.
  func run() async -> Int32 {
    do {
      let parts = try await start()
      await Agent.untilCancelled()
      // The shutdown must complete although this task is cancelled.
      await Task { await stop(parts) }.value
      return 0
    } catch is CancellationError {
      return 0
    } catch {
      logger.critical("agent failed; exiting", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
  }

  private func start() async throws -> Parts {
    let began = ContinuousClock.now
    guard settings.family == .ipv4 else { throw AgentError.noIPv6 }
    // Before anything is changed: two agents on one node would destroy each other's state.
    try await RPCServer.awaitFree(path: Agent.socketPath, within: Agent.predecessorLimit) { [logger] in
      logger.notice(
        "another agent still listens on the socket; waiting for it to exit", metadata: ["socket": "\(Agent.socketPath)"]
      )
    }
    // Before the first connection, and until the permanent rules are in place.
    trackConnections(ConnectionTracking.begin)
    defer { trackConnections(ConnectionTracking.end) }
    metrics.initializationBegan()
    let cluster = Cluster(settings: settings, logger: logger)
    let cloud = try CloudAccess(
      environment: environment, userAgent: "amazon-vpc-cni-k8s/\(settings.version)", timeout: settings.httpTimeout,
      observer: { [metrics, calls, reporter = cluster.reporter] in
        metrics.ec2($0)
        calls.note($0)
        reporter.ec2($0)
      }, credentials: { [logger] in $0.log(to: logger) })
    // If the MTU must be lowered, that happens before any long-lived connection.
    let mayLower = settings.eniMTU < Settings.largestMTU
    let follow = { [environment] in Task { await cluster.run(environment: environment, transport: cloud.transport) } }
    let early = mayLower ? nil : follow()
    let identity = try await identify(cloud)
    // Before the node is set up, so that no later change is missed.
    let watch = await openWatch()
    let network = try NodeNetwork(
      settings: NetworkSettings(settings), logger: logger,
      observe: { report in
        metrics.firewallApplied(report)
        firewall.note(report)
      })
    if mayLower { try await network.lowerMTU(of: identity.primary.mac) }
    let link = early ?? follow()
    let ec2 = try cloud.ec2(region: identity.instance.region)
    let capacity = try await NodeCapacity.read(of: identity.instance.instanceType, settings, ec2, logger)
    let enis = nodeENIs(identity, cloud.imds, ec2, network, cluster.customNetwork)
    // In parallel with the following steps.
    let reading = Task { await enis.subnets.read() }
    let found = try readCheckpoint()
    let led = try await network.ledENIs()
    let listed = try await enis.describeAtStart(
      NodeEvidence(
        inUse: Set(found.checkpoint.allocations.map(\.address)), led: led ?? [], links: try await network.linkMACs()))
    var attached = listed.enis

    let contested = try await network.begin(
      primary: identity.primary.mac, enis.nodeWanted(WantedENIs(enis: attached)))
    var shownOn: [IPPrefix: ENIID] = [:]
    for index in attached.indices {
      for cidr in attached[index].cidrs where contested.contains(cidr) { shownOn[cidr] = attached[index].id }
      attached[index].cidrs.removeAll(where: contested.contains)
    }
    // On its own thread, in parallel with the restoration.
    async let hostRules = network.applyHostRules(
      primary: identity.primary.mac, address: identity.primaryAddress, vpcCIDRs: identity.primary.vpcIPv4CIDRs,
      lockWaitSeconds: Agent.lockWaitSeconds)
    let restoration = try await restore(found, network)
    _ = try await hostRules

    let poolSettings = settings.pool(limits: capacity.limits, maxPods: capacity.maxPods)
    let pool = try AddressPool(
      pool: Pool(settings: poolSettings, seed: UInt64.random(in: 0...UInt64.max)), operations: enis,
      checkpoint: CheckpointFile(path: settings.checkpointPath), logger: logger, metrics: metrics)
    // A new node must not take addresses of an excluded subnet. One with pods has warm addresses, and serves at once.
    if listed.isByEC2, restoration.checkpoint.allocations.isEmpty {
      await enis.subnets.awaitFirst(within: Agent.subnetsLimit)
    }
    let subnets = enis.subnets.choice
    for index in attached.indices { attached[index].isExcluded = subnets.excluded.contains(attached[index].subnet) }
    if cluster.customNetwork == nil { await pool.tell(.subnets(subnets.ordered)) }
    await cluster.awaitWhatIsNeeded(attached: attached)
    let follower = cluster.follower(enis, pool)
    var told = ClusterFollower.Told(maxPods: capacity.maxPods)
    await follower.follow(&told)
    cluster.restored(restoration.checkpoint)
    // IMDS lags, and only the checkpoint knows recent unassigns.
    let restsUnproven = (!listed.isByEC2 || settings.usesIMDSOnly) && !found.isSound && led != nil
    var begin = PoolStart(enis: attached, checkpoint: restoration.checkpoint, restsUnproven: restsUnproven)
    begin.contested = shownOn
    await pool.start(begin)
    metrics.initializationEnded(isSuccess: true, after: began.duration(to: .now))

    let health = HealthStatus(.serving)
    let server = try await serve(pool, network, enis, health, cluster.podObserver)
    logger.notice(
      "ready",
      metadata: [
        "instance": "\(identity.instance.instanceID)", "type": "\(identity.instance.instanceType)",
        "enis": "\(attached.count)", "pods": "\(restoration.checkpoint.allocations.count)",
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
    let secondLook = Task { await lookAgain(at: restoration.unproven, pool, network) }
    // No waiting pod needs it, so it runs last.
    let work = BackgroundWork(
      settings: settings, enis: enis, pool: pool, network: network, knownSubnets: subnets, isListed: listed.isByEC2,
      cluster: follower, toldByCluster: told, metrics: metrics, watch: watch, repairs: repairs,
      podObserver: cluster.podObserver, time: .system,
      logger: logger)
    return Parts(
      pool: pool, server: server, health: health, tasks: [link, reading, secondLook, Task { await work.run() }],
      observation: observation)
  }

  private func statusReport(
    _ pool: AddressPool, _ network: NodeNetwork, _ enis: NodeENIs, _ cluster: Cluster,
    _ began: ContinuousClock.Instant
  ) -> StatusReport {
    let instance = enis.identity.instance
    let node = StatusReport.Node(
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

  private func stop(_ parts: Parts) async {
    logger.notice("stopping")
    parts.health.set(.notServing)
    for task in parts.tasks { task.cancel() }
    await parts.pool.shutDown(within: Agent.stopLimit)
    // It runs on the server's event loop, so it stops before the loop.
    parts.observation.cancel()
    await parts.observation.value
    await parts.server.shutdown(within: .seconds(1))
    logger.notice("stopped")
  }

  private static func untilCancelled() async {
    let (nothing, _) = AsyncStream<Never>.makeStream()
    for await _ in nothing {}
  }

  // MARK: steps

  /// Without it, a connection opened before the SNAT rules breaks once they are in place, and must be reopened.
  private func trackConnections(_ change: () throws -> Void) {
    do {
      try change()
    } catch {
      logger.debug("cannot enable connection tracking during startup", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  /// Without it, the node is still checked once a minute. If the notification sockets cannot be opened yet,
  /// `NodeRepair` opens them later.
  private func openWatch() async -> NodeWatch? {
    do {
      let watch = try NodeWatch()
      try? await watch.open()  // logged and retried by NodeRepair
      return watch
    } catch {
      let reason = CauseChain.text(error)
      repairs.update { $0.watchFailure = reason }
      logger.error(
        "cannot watch kernel changes; checking the node once a minute instead", metadata: ["error": "\(reason)"])
      return nil
    }
  }

  /// Asks IMDS until it answers: the agent needs the node's identity.
  private func identify(_ cloud: CloudAccess) async throws -> NodeIdentity {
    var wait = Duration.milliseconds(250)
    while true {
      do {
        return try await NodeIdentity.read(from: cloud.imds)
      } catch {
        try Task.checkCancellation()
        metrics.metadataFailed("identify", error)
        logger.warning(
          "cannot read the instance identity from IMDS; will retry",
          metadata: ["error": "\(CauseChain.text(error))", "in": "\(wait.brief)"])
        try await Task.sleep(for: wait)
        wait = min(wait * 2, .seconds(5))
      }
    }
  }

  private func nodeENIs(
    _ identity: NodeIdentity, _ imds: IMDSClient, _ ec2: EC2Client, _ network: NodeNetwork,
    _ customNetwork: CustomNetwork?
  ) -> NodeENIs {
    let directory = ENIDirectory()
    directory.setCIDR(identity.primarySubnetCIDR, of: identity.primarySubnet)
    // With custom networking the ENIConfig names the subnet; without EC2 calls, no subnet is chosen.
    let discovers = settings.discoversSubnets && settings.provisions && !settings.usesCustomNetworking
    let subnets = SubnetDirectory(
      ec2: ec2, identity: identity, clusterName: settings.clusterName, isEnabled: discovers, enis: directory,
      logger: logger)
    return NodeENIs(
      ec2: ec2, imds: imds, network: network, directory: directory, subnets: subnets,
      primary: PrimaryState(identity.primary), identity: identity,
      tags: ENITags(
        instanceID: identity.instance.instanceID, clusterName: settings.clusterName,
        additional: settings.additionalTags),
      mode: NodeENIs.Mode(
        managesUntagged: settings.managesUntaggedENIs, provisions: settings.provisions,
        asksIMDSOnly: settings.usesIMDSOnly),
      time: .system, logger: logger, customNetwork: customNetwork)
  }

  /// The checkpoint, and whether it existed without damage.
  private struct Found {
    let checkpoint: Checkpoint
    let isSound: Bool
  }

  private func readCheckpoint() throws -> Found {
    let checkpoint = CheckpointFile(path: settings.checkpointPath)
    try checkpoint.makeFolder()
    // Without a file, pods that the kernel has routes to are unknown: none of them counts as deleted.
    let wasThere = checkpoint.exists
    let file = checkpoint.read()
    for finding in file.findings {
      logger.warning("checkpoint damaged; keeping the valid entries", metadata: ["finding": "\(finding)"])
    }
    let translated = file.checkpoint.translated(
      to: PoolClock.now(), bootID: checkpoint.bootID, rest: settings.cooldown, lag: PoolTimings().quarantine)
    return Found(checkpoint: translated, isSound: wasThere && file.findings.isEmpty)
  }

  private func restore(_ found: Found, _ network: NodeNetwork) async throws -> Restoration {
    let veths = try await network.podVeths()
    let restoration = Restoration(
      checkpoint: found.checkpoint, isSound: found.isSound,
      podRoutes: try await network.podRoutes(to: veths), veths: veths, unixNanoseconds: PoolClock.now().unixNanoseconds,
      cooldown: settings.cooldown)
    try await network.restorePods(restoration.routes)
    for remains in restoration.gone { network.removeHostVethSoon(remains) }
    if !restoration.gone.isEmpty || !restoration.recovered.isEmpty {
      logger.notice(
        "pods changed while the agent was down",
        metadata: ["gone": "\(restoration.gone.map(\.address))", "recovered": "\(restoration.recovered)"])
    }
    return restoration
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

  private func serve(
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
}

/// Why this release cannot run with these settings.
enum AgentError: Error, CustomStringConvertible {
  case noIPv6

  var description: String {
    switch self {
    case .noIPv6: "ENABLE_IPv6=true: this release serves IPv4 clusters only; set ENABLE_IPv4=true and ENABLE_IPv6=false"
    }
  }
}

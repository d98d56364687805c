// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

extension Agent {
  /// The node is known, and the parts that act on it exist. Nothing on it has changed yet, except for a lower MTU.
  struct Identified {
    let identity: NodeIdentity
    let capacity: NodeCapacity
    let network: NodeNetwork
    let enis: NodeENIs
    let cluster: Cluster
    /// Nil if kernel changes cannot be watched.
    let watch: NodeWatch?
    /// Follows the cluster, and reads the subnets, in parallel with the start.
    let tasks: [Task<Void, Never>]
  }

  func identify() async throws -> Identified {
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
    let identity = try await readIdentity(cloud)
    // Before the node is set up, so that no later change is missed.
    let networkSettings = NetworkSettings(settings)
    let watch = await openWatch(networkSettings.families)
    let network = try NodeNetwork(
      settings: networkSettings, logger: logger,
      observe: { [metrics, firewall] report in
        metrics.firewallApplied(report)
        firewall.note(report)
      })
    if mayLower { try await network.lowerMTU(of: identity.primary.mac) }
    let link = early ?? follow()
    let ec2 = try cloud.ec2(region: identity.instance.region)
    let capacity = try await NodeCapacity.read(of: identity.instance.instanceType, settings, ec2, logger)
    let enis = nodeENIs(identity, cloud.imds, ec2, network, cluster.customNetwork)
    return Identified(
      identity: identity, capacity: capacity, network: network, enis: enis, cluster: cluster, watch: watch,
      tasks: [link, Task { await enis.subnets.read() }])
  }

  /// Without it, the node is still checked once a minute. If the notification sockets cannot be opened yet,
  /// `NodeRepair` opens them later.
  private func openWatch(_ families: [AddressFamily]) async -> NodeWatch? {
    do {
      let watch = try NodeWatch(families)
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
  private func readIdentity(_ cloud: CloudAccess) async throws -> NodeIdentity {
    var wait = Duration.milliseconds(250)
    while true {
      do {
        return try await NodeIdentity.read(from: cloud.imds, settings.family)
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
      primary: PrimaryState(identity.primary, identity.family), identity: identity,
      tags: ENITags(
        instanceID: identity.instance.instanceID, clusterName: settings.clusterName,
        additional: settings.additionalTags),
      mode: NodeENIs.Mode(
        managesUntagged: settings.managesUntaggedENIs, provisions: settings.provisions,
        asksIMDSOnly: settings.usesIMDSOnly),
      time: .system, logger: logger, customNetwork: customNetwork)
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// Background work from "ready" to shutdown. Each part is a task that mostly waits, without its own thread:
//
//   ClusterFollower     pod limit, cordon, ENIConfig         on API server changes       DescribeSubnets for an ENIConfig
//   SubnetDirectory     subnets and their free addresses     when growth needs it        DescribeSubnets
//   AttachmentWatch     attached ENIs                        every minute                IMDS only
//   PrimaryWatch        security groups, the VPC's CIDRs     every half minute           IMDS; EC2 after a change
//   HostRulesWatch      SNAT, connection marks               while rules are missing     no AWS calls
//   NodeENIs.runCare    missing tags and attributes          after a listing             EC2 if something is missing
//   NodeRepair          the node's kernel state              after a change              no AWS calls
//   AbandonedPods       addresses of pods without a DEL      when a pod's veth goes      no AWS calls
//   LeakedENISweep      ENIs of ended instances              once an hour per cluster    DescribeNetworkInterfaces
//
// An idle node calls EC2 only for its share of the leaked-ENI sweep.

internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

/// The parts that a running agent's background work is made of.
struct BackgroundWork: Sendable {
  let settings: Settings
  let enis: NodeENIs
  let pool: AddressPool
  let network: NodeNetwork
  /// The subnet choice that the pool started with.
  let knownSubnets: SubnetChoice
  /// False if the agent started from IMDS only, because EC2 did not answer.
  let isListed: Bool
  let cluster: ClusterFollower
  /// The cluster state passed to the pool at startup.
  let toldByCluster: ClusterFollower.Told
  let metrics: AgentMetrics
  /// Nil if kernel changes cannot be watched.
  let watch: NodeWatch?
  /// The repair's records; nil if the node network is not repaired, as in tests without one.
  let repairs: RepairRecord?
  var podObserver = PodObserver()
  let time: TimeSource
  let logger: Logger

  /// Runs until cancelled.
  func run() async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await followSubnets() }
      group.addTask { await cluster.run(from: toldByCluster) }
      group.addTask { await attachments.run() }
      group.addTask { await primary.run() }
      group.addTask { await hostRules.run() }
      if let repair {
        group.addTask { await repair.run() }
        group.addTask { await abandonedPods.run() }
      }
      if !isListed { group.addTask { await enis.listUntilKnown { await pool.tell(.observed($0)) } } }
      if settings.provisions { group.addTask { await enis.runCare() } }
      if settings.cleansLeakedENIs { group.addTask { await sweep.run() } }
    }
  }

  private func followSubnets() async {
    await enis.subnets.run(from: knownSubnets) { old, new in
      if new.ordered != old.ordered {
        logger.notice(
          "subnets for new ENIs",
          metadata: ["subnets": "\(new.ordered)", "excluded": "\(new.excluded.sorted())"])
        await pool.tell(.subnets(new.ordered))
      }
      let changed = old.excluded.symmetricDifference(new.excluded)
      guard enis.directory.entries.values.contains(where: { changed.contains($0.subnet) }) else { return }
      // The pool learns of an exclusion with what is attached.
      switch await enis.list() {
      case .listed(let listing): await pool.tell(.observed(listing))
      case .failed(let failure):
        logger.warning(
          "cannot list ENIs after a change of excluded subnets; keeping the last EC2 listing",
          metadata: ["error": "\(failure)"])
      default: break
      }
    }
  }

  private var attachments: AttachmentWatch {
    AttachmentWatch(
      imds: enis.imds, family: enis.family, directory: enis.directory, observe: enis.observe,
      tell: { listing in await pool.tell(.observed(listing)) }, time: time, logger: logger)
  }

  private var hostRules: HostRulesWatch { HostRulesWatch(network: network, time: time, logger: logger) }

  private var primary: PrimaryWatch {
    let identity = enis.identity
    return PrimaryWatch(
      imds: enis.imds, ec2: enis.ec2, primary: identity.primary.mac, family: enis.family, state: enis.primary,
      directory: enis.directory, followsGroups: settings.provisions,
      groupsOfOthers: { [customNetwork = enis.customNetwork] groups in
        customNetwork.map { $0.groups(primary: groups) } ?? groups
      },
      applyCIDRs: { cidrs in
        let report = try await network.applyHostRules(
          primary: identity.primary.mac, address: identity.primaryAddress, vpcCIDRs: cidrs)
        if let failure = report.failures.first { throw failure }
      }, time: time, logger: logger)
  }

  private var repair: NodeRepair? {
    guard let repairs else { return nil }
    return NodeRepair(
      network: network, watch: watch, assignments: { await pool.pool.assignments },
      applyHostRules: {
        guard let report = try await network.verifyHostRules() else { return [] }
        // A move of the rules to kubelet's iptables backend is no repair.
        return report.isMove ? [] : report.changes
      }, record: repairs, metrics: metrics, time: time, logger: logger)
  }

  private var abandonedPods: AbandonedPods {
    AbandonedPods(
      network: network, pool: pool, metrics: metrics, observer: podObserver, time: time, logger: logger)
  }

  private var sweep: LeakedENISweep {
    LeakedENISweep(
      ec2: enis.ec2, vpcID: enis.identity.primary.vpcID, clusterName: settings.clusterName, time: time,
      logger: logger)
  }
}

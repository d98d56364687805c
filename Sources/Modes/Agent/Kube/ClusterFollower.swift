// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCKube
internal import VPCModel

/// Tells the pool the state from the API server: max pods, cordon, and the subnet for ENIs.
struct ClusterFollower: Sendable {
  let state: ClusterState
  /// Nil without custom networking.
  let customNetwork: CustomNetwork?
  let enis: NodeENIs
  let pool: AddressPool
  let logger: Logger

  /// The state last passed to the pool.
  struct Told: Sendable {
    var maxPods: Int?
    var isUnschedulable = false
    var eniConfig: ENIConfig?
    var problem = ""
  }

  /// Follows until cancelled.
  func run(from told: Told) async {
    var told = told
    await tellOfPodsOutside()
    for await _ in state.changes() { await follow(&told) }
  }

  /// Passes changes to the pool.
  func follow(_ told: inout Told) async {
    let known = state.content
    if let node = known.node {
      if let pods = node.podCapacity, pods != told.maxPods {
        logger.notice("max pods of the node", metadata: ["pods": "\(pods)"])
        told.maxPods = pods
        await pool.tell(.maxPods(pods))
      }
      if node.isUnschedulable != told.isUnschedulable {
        logger.notice(node.isUnschedulable ? "node cordoned" : "node uncordoned")
        told.isUnschedulable = node.isUnschedulable
        await pool.tell(.schedulable(!node.isUnschedulable))
      }
    }
    guard let customNetwork else { return }
    if let config = known.eniConfig, config.spec != told.eniConfig?.spec {
      told.eniConfig = config
      if let fault = await use(config, customNetwork) {
        let inForce = customNetwork.choice.map { "ENIConfig \($0.name), \($0.subnet)" } ?? "none, cannot create ENIs"
        logger.error("cannot use the ENIConfig", metadata: ["error": "\(fault)", "in force": "\(inForce)"])
        await tell(problem: fault, customNetwork, &told)
      } else {
        told.problem = ""
      }
    } else if known.eniConfig == nil {
      await tell(problem: known.eniConfigProblem, customNetwork, &told)
    }
  }

  private func tell(problem: String, _ customNetwork: CustomNetwork, _ told: inout Told) async {
    guard customNetwork.choice == nil, told.problem != problem else { return }
    told.problem = problem
    await pool.tell(.subnetsUnknown(problem))
  }

  /// - Returns: why it is not used; nil if it is.
  private func use(_ config: ENIConfig, _ customNetwork: CustomNetwork) async -> String? {
    let identity = enis.identity
    do throws(EC2Error) {
      let subnet = try await enis.ec2.describeSubnet(config.subnet.text)
      let zone = identity.instance.availabilityZone
      if let fault = CustomNetwork.fault(config, subnet: subnet, zone: zone, vpcID: identity.primary.vpcID) {
        return fault
      }
      if let cidr = subnet?.ipv4CIDR { enis.directory.setCIDR(cidr, of: config.subnet) }
    } catch {
      // Creating an ENI there will show whether it fits.
      logger.warning(
        "cannot read the ENIConfig's subnet from EC2; using it unchecked",
        metadata: ["subnet": "\(config.subnet)", "error": "\(CauseChain.text(error))"])
    }
    let choice = CustomNetwork.Choice(
      name: config.metadata.name, subnet: config.subnet, groups: config.securityGroups)
    customNetwork.set(choice)
    logger.notice(
      "using ENIConfig for new ENIs",
      metadata: ["name": "\(choice.name)", "subnet": "\(choice.subnet)", "groups": "\(choice.groups)"])
    await pool.tell(.subnets([choice.subnet]))
    await tellOfPodsOutside()
    return nil
  }

  /// Running pods keep their addresses when custom networking is switched on or the ENIConfig changes. Nothing else
  /// shows this, so it is logged with the remedy. There is nothing to log before the pool has started.
  private func tellOfPodsOutside() async {
    guard let choice = customNetwork?.choice else { return }
    let enis = await pool.snapshot().enis.filter { $0.isOutdated || $0.eni.isPrimary }
    let pods = enis.reduce(0) { $0 + $1.cidrs.reduce(0) { $0 + $1.assigned } }
    guard pods > 0 else { return }
    logger.warning(
      "pods run outside the ENIConfig's subnet and keep their addresses; only new pods use its subnet",
      metadata: [
        "pods": "\(pods)", "enis": "\(enis.map(\.eni.id))", "ENIConfig": "\(choice.name)", "subnet": "\(choice.subnet)",
        "remedy": "recycle the node to move all pods at once",
      ])
  }
}

extension ENIConfig {
  /// The relevant part: other members and annotations may change.
  fileprivate var spec: CustomNetwork.Choice {
    CustomNetwork.Choice(name: metadata.name, subnet: subnet, groups: securityGroups)
  }
}

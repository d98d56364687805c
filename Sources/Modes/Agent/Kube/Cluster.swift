// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// The agent's Kubernetes parts, created before all others and followed once the pool exists.
struct Cluster: Sendable {
  let settings: Settings
  let state = ClusterState()
  let reporter: EventReporter
  /// Set with ANNOTATE_POD_IP.
  let annotator: PodAnnotator?
  /// Set with AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG.
  let customNetwork: CustomNetwork?
  private let time: TimeSource
  private let logger: Logger

  /// The start waits this long for the first read of the Node object, so that a cordoned node attaches nothing and a
  /// pool for 11 pods does not grow as for 58. A later read does no harm.
  static let firstLook = Duration.seconds(1)
  /// A fresh node with custom networking cannot run a pod before its ENIConfig is known. The limit of
  /// amazon-vpc-cni-k8s.
  static let firstENIConfig = Duration.seconds(30)

  init(settings: Settings, time: TimeSource = .system, logger: Logger) {
    self.settings = settings
    self.time = time
    self.logger = logger
    reporter = EventReporter(time: time, logger: logger)
    annotator = settings.annotatesPodIP ? PodAnnotator(time: time, logger: logger) : nil
    customNetwork = settings.usesCustomNetworking ? CustomNetwork() : nil
  }

  /// Talks to the API server until cancelled.
  func run(environment: [String: String], transport: any HTTPStreamTransport) async {
    let link = ClusterLink(
      settings: settings, environment: environment, transport: transport, state: state, reporter: reporter,
      annotator: annotator, time: time, logger: logger)
    if settings.usesPodENIs {
      logger.warning(
        "ENABLE_POD_ENI is set, but this release does not implement security groups for pods")
    }
    await link.run()
  }

  /// Waits for the objects that the start needs from the API server, at most as long as the limits above.
  ///
  /// - Parameter attached: if they include an ENI that pods can use, nothing is needed at once.
  func awaitWhatIsNeeded(attached: [ENIObservation]) async {
    let isFresh = !attached.contains { !$0.isPrimary && $0.isManaged && !$0.isTrunk && !$0.isExcluded }
    guard customNetwork != nil, settings.provisions, isFresh else {
      _ = await state.wait(within: Cluster.firstLook, time: time) { $0.node != nil || !$0.isExpected }
      return
    }
    let isKnown = await state.wait(within: Cluster.firstENIConfig, time: time) {
      $0.isENIConfigAnswered || !$0.isExpected
    }
    guard !isKnown else { return }
    logger.warning(
      "starting without an ENIConfig; pods get no address until it is known",
      metadata: ["waited": "\(Cluster.firstENIConfig.brief)", "because": "\(state.content.eniConfigProblem)"])
  }

  /// Observer of each pod's address. Takes a lock, never waits.
  var podObserver: PodObserver {
    PodObserver(
      assigned: { [annotator] pod, address in annotator?.assigned(pod, address) },
      released: { [annotator] pod, address in annotator?.released(pod, address) },
      failed: { [reporter] cause in reporter.noAddress(cause) })
  }

  /// Pods that had their addresses before this start.
  func restored(_ checkpoint: Checkpoint) {
    guard let annotator else { return }
    for entry in checkpoint.allocations where entry.pod.isComplete { annotator.assigned(entry.pod, entry.address) }
  }

  func follower(_ enis: NodeENIs, _ pool: AddressPool) -> ClusterFollower {
    ClusterFollower(state: state, customNetwork: customNetwork, enis: enis, pool: pool, logger: logger)
  }
}

/// Receives assignments and releases of pod addresses.
struct PodObserver: Sendable {
  var assigned: @Sendable (PodName, IPAddress) -> Void = { _, _ in }
  var released: @Sendable (PodName, IPAddress) -> Void = { _, _ in }
  var failed: @Sendable (FailureCause) -> Void = { _ in }
}

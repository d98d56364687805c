// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// The agent's parts that have to do with Kubernetes, made before all others and followed once there is a pool.
struct Cluster: Sendable {
  let settings: Settings
  let state = ClusterState()
  let reporter: EventReporter
  /// Where ANNOTATE_POD_IP is set.
  let annotator: PodAnnotator?
  /// Where AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG is set.
  let customNetwork: CustomNetwork?
  private let time: TimeSource
  private let logger: Logger

  /// A first look at the node comes with the rest of the start; this much longer is waited for it, so that a cordoned
  /// node attaches nothing and a pool of 11 pods does not fill as for 58. Nothing is lost where it comes later.
  static let firstLook = Duration.seconds(1)
  /// A fresh node under custom networking cannot carry a pod before its ENIConfig is known. The existing system's bound.
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

  /// Waits for what the start needs of the API server, and never longer than the bounds above.
  ///
  /// - Parameter attached: with an ENI among them that pods can use, nothing is needed at once.
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

  /// What is told of each pod. Costs a lock and waits for nothing.
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

/// Whoever wants to know what became of pods' addresses.
struct PodObserver: Sendable {
  var assigned: @Sendable (PodName, IPAddress) -> Void = { _, _ in }
  var released: @Sendable (PodName, IPAddress) -> Void = { _, _ in }
  var failed: @Sendable (FailureCause) -> Void = { _ in }
}

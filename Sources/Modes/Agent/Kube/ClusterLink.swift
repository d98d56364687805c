// SPDX-License-Identifier: Apache-2.0
//
// The agent's Kubernetes side. It never blocks address assignment: state is followed once it is known, and stays in
// effect while the API server is unreachable.
//
//   ClusterLink         watches this node's objects, by name, and writes them into    ClusterState
//   ClusterFollower     tells the pool what of it concerns the pool                   maxPods, cordon, subnets
//   CustomNetwork       which subnet and groups new ENIs get                          ENIConfig
//   PodAnnotator        writes pods' addresses into their annotation                  ANNOTATE_POD_IP
//   CNINodeFeatures     asks the VPC resource controller for what this node needs     ENABLE_POD_ENI
//   EventReporter       says on the agent's own pod why pods get no address

internal import Logging
internal import Synchronization
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// Keeps `ClusterState` up to date for as long as its task runs.
struct ClusterLink: Sendable {
  let settings: Settings
  let environment: [String: String]
  let transport: any HTTPStreamTransport
  let state: ClusterState
  let reporter: EventReporter
  /// Set with ANNOTATE_POD_IP.
  let annotator: PodAnnotator?
  let time: TimeSource
  let logger: Logger

  /// A configuration that cannot be used is read again after this time.
  static let configurationRetry = Duration.seconds(30)

  private static let configuration = "configuration of the API server"
  private var nodeSubject: String { "node \(settings.nodeName)" }

  func run() async {
    guard let client = await client() else { return }
    state.found(server: client.server)
    logger.info(
      "API server configured", metadata: ["server": "\(client.server)", "by": "\(client.configuration.source)"])
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await reporter.run(client, podName: settings.podName, state: state) }
      if let annotator { group.addTask { await annotator.run(client, nodeName: settings.nodeName, state: state) } }
      guard !settings.nodeName.isEmpty else {
        logger.error(
          "MY_NODE_NAME is not set; cannot read max pods and cordon state from the Node object"
        )
        state.failed(
          "node", because: "MY_NODE_NAME is not set in the agent's environment (fieldRef spec.nodeName)")
        state.update { $0.eniConfigProblem = "MY_NODE_NAME is not set, so the node's ENIConfig is unknown" }
        return
      }
      group.addTask { await watchNode(client) }
      if settings.usesCustomNetworking { group.addTask { await watchENIConfigs(client) } }
      if settings.usesPodENIs {
        let features = CNINodeFeatures(
          nodeName: settings.nodeName, usesCustomNetworking: settings.usesCustomNetworking, state: state, time: time,
          logger: logger)
        group.addTask { await features.run(client) }
      }
    }
  }

  /// The client from the environment; nil if no API server is configured.
  private func client() async -> KubeClient? {
    var streak = FailureStreak()
    while !Task.isCancelled {
      do throws(KubeConfigurationError) {
        guard
          let configuration = try KubeConfiguration.read(environment: environment, endpoint: settings.clusterEndpoint)
        else {
          state.update {
            $0.isExpected = false
            $0.eniConfigProblem = "no API server configured (KUBERNETES_SERVICE_HOST, CLUSTER_ENDPOINT or KUBECONFIG)"
          }
          logger.notice("no API server configured; running without Kubernetes")
          return nil
        }
        state.settled(ClusterLink.configuration)
        return KubeClient(
          configuration: configuration, transport: transport, userAgent: "aws-k8s-agent-\(settings.version)", time: time
        )
      } catch {
        let text = CauseChain.text(error)
        state.failed(ClusterLink.configuration, because: text)
        state.update { $0.eniConfigProblem = "cannot load the API server configuration: \(text)" }
        if streak.failed() {
          logger.error(
            "cannot load the API server configuration; running without Kubernetes, will retry",
            metadata: ["error": "\(text)", "every": "\(ClusterLink.configurationRetry.brief)"])
        }
      }
      // Cancelled: the loop's condition ends it.
      try? await time.sleep(ClusterLink.configurationRetry)
    }
    return nil
  }

  // MARK: the node

  private func watchNode(_ client: KubeClient) async {
    await KubeWatch(KubeNode.self, client: client, .name(settings.nodeName)).run { event in
      switch event {
      case .listed(let nodes):
        if let node = nodes.first {
          take(node)
        } else {
          logger.warning("the API server has no Node with this name yet", metadata: ["node": "\(settings.nodeName)"])
          // An object that cannot be parsed has just been logged.
          if !state.hasFault(nodeSubject) {
            state.failed(nodeSubject, because: "the API server has no Node with this name (MY_NODE_NAME)")
          }
        }
      case .changed(let node): take(node)
      case .deleted: break  // kubelet registers it again, or the instance ends: the known state stays
      default: report(event, nodeSubject)
      }
    }
  }

  private func take(_ node: KubeNode) {
    state.settled(nodeSubject)
    state.update { content in
      content.node = node
      content.eniConfigName = ClusterState.eniConfigName(
        of: node.metadata, annotationKey: settings.eniConfigAnnotation, labelKey: settings.eniConfigLabel)
    }
  }

  // MARK: ENIConfig

  /// Watches the ENIConfig that the node names, and switches when the name changes.
  private func watchENIConfigs(_ client: KubeClient) async {
    while !Task.isCancelled {
      guard let name = await nextName(after: nil) else { return }
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await watchENIConfig(name, client) }
        group.addTask { _ = await nextName(after: name) }
        // The second task ends first, unless all are cancelled.
        await group.next()
        group.cancelAll()
      }
    }
  }

  private func nextName(after known: String?) async -> String? {
    for await _ in state.changes() {
      if let name = state.content.eniConfigName, name != known { return name }
    }
    return nil
  }

  private func watchENIConfig(_ name: String, _ client: KubeClient) async {
    let fault = LastFault()
    // Another ENIConfig, or shutdown: this one is no longer needed.
    defer { state.settled("ENIConfig \(name)") }
    await KubeWatch(ENIConfig.self, client: client, .name(name)).run { event in
      switch event {
      case .listed(let configs):
        let problem = fault.take() ?? "ENIConfig \(name) does not exist"
        configs.first.map(take) ?? keep(name, problem)
      case .changed(let config): take(config)
      case .deleted: keep(name, "ENIConfig \(name) was deleted")
      case .unreadable(let text):
        fault.set(text)
        keep(name, text)
      case .lost(let error, _):
        // An ENIConfig read earlier stays in effect.
        let problem = "cannot read ENIConfig \(name) from the API server: \(CauseChain.text(error))"
        if state.content.eniConfig == nil { state.update { $0.eniConfigProblem = problem } }
        report(event, "ENIConfig \(name)")
      case .recovered: report(event, "ENIConfig \(name)")
      }
    }
  }

  private func take(_ config: ENIConfig) {
    state.settled("ENIConfig \(config.metadata.name)")
    state.update {
      $0.eniConfig = config
      $0.eniConfigProblem = ""
      $0.isENIConfigAnswered = true
    }
  }

  /// The ENIConfig in effect stays in effect.
  private func keep(_ name: String, _ problem: String) {
    state.failed("ENIConfig \(name)", because: problem)
    guard state.content.eniConfigProblem != problem else { return }
    let inForce = state.content.eniConfig.map { "ENIConfig \($0.metadata.name)" } ?? "none, cannot create ENIs"
    logger.error("cannot use the ENIConfig", metadata: ["error": "\(problem)", "in force": "\(inForce)"])
    state.update {
      $0.eniConfigProblem = problem
      $0.isENIConfigAnswered = true
    }
  }

  private func report<Object>(_ event: KubeWatchEvent<Object>, _ what: String) {
    switch event {
    case .lost(let error, let wait):
      let permission = state.failed(
        what, error, on: Object.resource, verbs: "list and watch", isEssential: true)
      logger.warning(
        "cannot read from the API server; keeping the last known state",
        metadata: [
          "of": "\(what)", "error": "\(CauseChain.text(error))", "again in": "\(wait.brief)",
          "permission": "\(permission)",
        ])
    case .recovered:
      state.settled(what)
      logger.notice("API server reachable again", metadata: ["of": "\(what)"])
    case .unreadable(let text):
      state.failed(what, because: text)
      logger.error("cannot parse an API object; keeping the last known state", metadata: ["error": "\(text)"])
    case .listed, .changed, .deleted: break
    }
  }
}

/// The last fault of an object, until it is read: the list that lacks the object follows it.
final class LastFault: Sendable {
  private let text = Mutex<String?>(nil)

  func set(_ new: String) { text.withLock { $0 = new } }

  func take() -> String? {
    text.withLock { text in
      defer { text = nil }
      return text
    }
  }
}

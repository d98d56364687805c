// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// Finds the agents by a watch of their pods and reads them through the API server, or at their own addresses.
///
/// While the API server is unreachable, the known agents are still scraped; on the direct route they still answer.
final class KubeAgentSource: AgentSource {
  /// Source: the manifests of amazon-vpc-cni-k8s.
  static let namespace = "kube-system"
  static let selector = KubeSelector(labels: "k8s-app=aws-node")

  /// An agent's pod is about 15 kB of JSON: a page of them is well below the answer limit.
  private static let pageSize = 100

  private let client: KubeClient
  /// For the agents' own addresses; nil if they are read through the API server.
  private let direct: CurlTransport?
  private let logger: Logger
  private let pods = Mutex<[String: AgentPod]>([:])
  /// Ends with the first listing.
  private let firstListing = AsyncStream<Never>.makeStream()

  /// - Throws: `KubeConfigurationError` if the API server's configuration is invalid; `HelperError` if there is none.
  init(settings: MetricsHelperSettings, environment: [String: String], logger: Logger) throws {
    guard
      let configuration = try KubeConfiguration.read(environment: environment, endpoint: settings.clusterEndpoint)
    else { throw HelperError.noAPIServer }
    var limits = KubeClient.Limits()
    limits.pageSize = KubeAgentSource.pageSize
    let transport = CurlTransport.Settings(
      proxy: ProxySettings(environment: environment), maximumRequests: settings.width + 8,
      connectionsPerHost: settings.width)
    client = KubeClient(
      configuration: configuration, transport: CurlTransport(settings: transport),
      userAgent: "cni-metrics-helper-\(settings.version)", limits: limits)
    direct =
      settings.route == .direct
      ? CurlTransport(settings: CurlTransport.Settings(maximumRequests: settings.width + 8)) : nil
    self.logger = logger
  }

  /// Keeps the list of agents until the task is cancelled.
  func run() async {
    let watch = KubeWatch(
      KubePod.self, client: client, in: KubeAgentSource.namespace, KubeAgentSource.selector, pagesFirstList: true)
    await watch.run { self.take($0) }
  }

  func agents() async -> [AgentPod] {
    for await _ in firstListing.stream {}
    return AgentPod.onePerNode(pods.withLock { Array($0.values) })
  }

  func read(_ agent: AgentPod, within timeout: Duration) async throws(AgentFailure) -> AgentReading {
    let stream = try await open(agent, timeout)
    var reader = AgentTextReader()
    do {
      while let part = try await stream.next() { try reader.read(part) }
    } catch let failure as AgentFailure {
      throw failure
    } catch let error as HTTPError {
      throw AgentFailure(error)
    } catch {
      throw AgentFailure(.unreachable, "connection lost while reading", cause: error)
    }
    return try reader.finish()
  }

  private func open(_ agent: AgentPod, _ timeout: Duration) async throws(AgentFailure) -> HTTPStream {
    guard let direct else {
      do {
        return try await client.openThroughPod(
          agent.name, in: KubeAgentSource.namespace, port: AgentPod.port, path: "/metrics", accept: "text/plain",
          timeout: timeout)
      } catch {
        throw AgentFailure(error)
      }
    }
    guard let address = agent.address else { throw AgentFailure(.noAddress, "the pod has no address yet") }
    let host = address.family == .ipv6 ? "[\(address)]" : "\(address)"
    let request = HTTPRequest(
      url: "http://\(host):\(AgentPod.port)/metrics", headers: ["Accept": "text/plain"], timeout: timeout,
      connectTimeout: timeout, useProxy: false)
    let stream: HTTPStream
    do {
      stream = try await direct.open(request, HTTPStreamLimits(lifetime: timeout, idle: timeout))
    } catch {
      throw AgentFailure(error)
    }
    guard stream.status == 200 else { throw AgentFailure(.refused, "\(request.url): status \(stream.status)") }
    return stream
  }

  private func take(_ event: KubeWatchEvent<KubePod>) {
    switch event {
    case .listed(let all):
      let found = all.filter(AgentPod.isAgent).map(AgentPod.init)
      pods.withLock { $0 = Dictionary(found.map { ($0.name, $0) }, uniquingKeysWith: { $1 }) }
      firstListing.continuation.finish()
      logger.debug("agents listed", metadata: ["agents": "\(found.count)"])
    case .changed(let pod):
      pods.withLock { $0[pod.metadata.name] = AgentPod.isAgent(pod) ? AgentPod(pod) : nil }
    case .deleted(let pod):
      pods.withLock { _ = $0.removeValue(forKey: pod.metadata.name) }
    case .unreadable(let text):
      logger.warning("cannot parse a Pod object; skipping it", metadata: ["error": "\(text)"])
    case .lost(let error, let wait):
      logger.warning(
        "cannot list agents from the API server; scraping the known ones",
        metadata: ["error": "\(CauseChain.text(error))", "retry.in": "\(wait)"])
    case .recovered:
      logger.info("API server reachable again")
    }
  }
}

/// Why the helper cannot start.
enum HelperError: Error, CustomStringConvertible {
  case noAPIServer

  var description: String {
    switch self {
    case .noAPIServer:
      "no API server configured: set KUBERNETES_SERVICE_HOST (run in a pod), CLUSTER_ENDPOINT or KUBECONFIG"
    }
  }
}

extension AgentPod {
  /// Only a running pod can answer: a pending or ended pod has no agent.
  static func isAgent(_ pod: KubePod) -> Bool { pod.phase == "Running" }

  init(_ pod: KubePod) {
    self.init(
      uid: pod.metadata.uid.isEmpty ? pod.metadata.name : pod.metadata.uid, name: pod.metadata.name, node: pod.node,
      address: IPAddress(pod.address), isTerminating: pod.isTerminating)
  }
}

extension AgentFailure {
  /// The API server's answer instead of an agent's.
  init(_ error: KubeError) {
    if let transport = error.cause as? HTTPError {
      self.init(transport)
    } else {
      // 502, 503, 504: the API server cannot reach the pod.
      self.init((502...504).contains(error.status) ? .unreachable : .refused, "\(error)")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The helper's parts: finding the agents (AgentSource), reading them (Rounds), and publishing the sums (HelperMetrics
// for Prometheus, CloudWatchPublisher). See also: Rounds.swift.

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCObserve
internal import VPCTransport

/// One run of the helper.
struct MetricsHelper: Sendable {
  /// The contract's, on all addresses.
  static let metricsAddress = ListenAddress.tcp(host: nil, port: 61_681)
  /// Time limit of the last flush after SIGTERM.
  private static let stopLimit = Duration.seconds(4)

  let settings: MetricsHelperSettings
  let environment: [String: String]
  let logger: Logger

  /// Runs until the task is cancelled.
  ///
  /// - Returns: the exit status.
  func run() async -> Int32 {
    let metrics = HelperMetrics()
    let source: KubeAgentSource
    let publisher: CloudWatchPublisher?
    do {
      publisher = try makePublisher(metrics)
      source = try KubeAgentSource(settings: settings, environment: environment, logger: logger)
    } catch {
      logger.critical("metrics helper failed; exiting", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
    if publisher == nil, !settings.servesPrometheus {
      logger.warning("no metrics output enabled; set USE_CLOUDWATCH or USE_PROMETHEUS")
    }
    let rounds = Rounds(
      source: source, settings: settings, metrics: metrics, publisher: publisher, time: .system, logger: logger)
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await source.run() }
      group.addTask { await rounds.run() }
      if let publisher { group.addTask { await publisher.run() } }
      if settings.servesPrometheus { group.addTask { await service(metrics).run() } }
    }
    logger.notice("stopping")
    if let publisher { await Self.lastFlush(publisher) }
    logger.notice("stopped")
    return 0
  }

  /// Nil if nothing is sent to CloudWatch.
  ///
  /// - Throws: `InvalidSetting` for errors known before any request.
  private func makePublisher(_ metrics: HelperMetrics) throws(InvalidSetting) -> CloudWatchPublisher? {
    guard settings.sendsToCloudWatch else { return nil }
    let cloud = try CloudAccess(
      environment: environment, userAgent: "amazon-vpc-cni-k8s/\(settings.version)", timeout: settings.httpTimeout)
    if let region = cloud.configuredRegion { _ = try cloud.cloudWatch(region: region) }
    let (clusterID, logger) = (settings.clusterID, logger)
    return CloudWatchPublisher(interval: settings.interval, metrics: metrics, logger: logger) {
      try await CloudWatchConnection.open(cloud, clusterID: clusterID, logger: logger)
    }
  }

  private func service(_ metrics: HelperMetrics) -> HTTPService {
    let address = MetricsHelper.metricsAddress
    let logger = logger
    return HTTPService(at: address) { path in
      guard path == "/metrics" else {
        return HTTPAnswer(status: 404, contentType: "text/plain", body: Array("metrics are at /metrics\n".utf8))
      }
      return HTTPAnswer(metrics: metrics.text())
    } report: { report in
      switch report {
      case .listening: logger.info("listening", metadata: ["service": "metrics", "address": "\(address)"])
      case .failed(let error):
        logger.warning(
          "cannot listen; will retry",
          metadata: ["service": "metrics", "address": "\(address)", "error": "\(error)"])
      }
    }
  }

  /// Sends waiting values within the limit: otherwise up to two rounds would be lost.
  private static func lastFlush(_ publisher: CloudWatchPublisher) async {
    let flush = Task { await publisher.flush() }
    let limit = Task {
      try await ContinuousClock().sleep(for: stopLimit)
      flush.cancel()
    }
    await flush.value
    limit.cancel()
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCObserve
internal import VPCTransport

/// Sends the rounds' values to CloudWatch, two rounds at a time, and keeps unsent values.
///
///     waiting ──2 intervals──▶ sending ──all sent──▶ waiting
///        ▲                        └──a call failed──▶ backing off (2 intervals, doubled up to 15 minutes, jittered)
///        └───────────────────────────────────────────────┘
///
/// Data that CloudWatch rejects are dropped, since it would reject them again; all other failures are retried.
actor CloudWatchPublisher {
  /// Source: cni-metrics-helper of amazon-vpc-cni-k8s.
  static let namespace = "Kubernetes"
  static let dimension = "CLUSTER_ID"
  /// This project's addition: agents without an answer in a round.
  static let silentAgents = "silentAgents"
  private static let longestPause = Duration.seconds(900)

  private let connect: @Sendable () async throws -> CloudWatchConnection
  private var connection: CloudWatchConnection?
  /// Of two rounds.
  private let pause: Duration
  private let metrics: HelperMetrics
  private let logger: Logger
  private let time: TimeSource
  private var queue: PublishQueue
  /// Consecutive failed flushes.
  private var failures = 0

  /// - Parameter connect: called before the first flush, and again until it succeeds; values wait meanwhile.
  init(
    interval: Duration, metrics: HelperMetrics, logger: Logger, time: TimeSource = .system,
    queue: PublishQueue = PublishQueue(), connect: @escaping @Sendable () async throws -> CloudWatchConnection
  ) {
    self.connect = connect
    pause = interval * 2
    self.metrics = metrics
    self.logger = logger
    self.time = time
    self.queue = queue
  }

  /// Takes a round's values for the next flush.
  func add(_ result: ScrapeRound.Result, at moment: UTCTime) {
    var data: [MetricDatum] = []
    for (metric, value) in zip(ClusterMetric.all, result.values) {
      guard let value, value.isFinite else { continue }
      data.append(MetricDatum(name: metric.name, dimensions: [:], value: value, unit: metric.unit, time: moment))
    }
    data.append(
      MetricDatum(
        name: CloudWatchPublisher.silentAgents, dimensions: [:], value: Double(result.silent.count), unit: .count,
        time: moment))
    let before = queue.overflowed
    queue.add(data)
    showQueue(since: before)
  }

  /// Flushes until the task is cancelled.
  func run() async {
    while !Task.isCancelled {
      do {
        try await time.sleep(nextPause())
      } catch {
        return  // cancelled
      }
      await flush()
    }
  }

  /// Sends waiting values, batch by batch, and stops at the first failed call.
  func flush() async {
    guard queue.count > 0, let connection = await connected() else { return }
    var sent = 0
    while queue.count > 0, !Task.isCancelled {
      let batch = queue.take(CloudWatchClient.batchLimit)
      do throws(CloudWatchError) {
        try await connection.client.putMetricData(
          batch.map { $0.with([CloudWatchPublisher.dimension: connection.clusterID]) },
          namespace: CloudWatchPublisher.namespace)
        sent += batch.count
        metrics.published.increment(by: Double(batch.count))
      } catch {
        // Interrupted by shutdown: no CloudWatch failure, and the last flush sends the values.
        if Task.isCancelled { return queue.putBack(batch) }
        metrics.publishFailures.increment(error.code)
        if error.isAboutTheData {
          drop(batch, error)
          continue
        }
        let before = queue.overflowed
        queue.putBack(batch)
        showQueue(since: before)
        return failed(
          error,
          error.isMissingPermission
            ? "allow cloudwatch:PutMetricData for the helper's role" : "none; will retry")
      }
    }
    showQueue(since: queue.overflowed)
    if failures > 0, sent > 0 { logger.info("CloudWatch accepts metrics again", metadata: ["values": "\(sent)"]) }
    if sent > 0 { failures = 0 }
  }

  /// The connection, created if needed; nil if that fails.
  private func connected() async -> CloudWatchConnection? {
    if let connection { return connection }
    do {
      let made = try await connect()
      connection = made
      return made
    } catch {
      failed(error, "set AWS_REGION, or let the helper's pod reach IMDS (hop limit 2)")
      return nil
    }
  }

  private func drop(_ batch: [MetricDatum], _ error: CloudWatchError) {
    metrics.dropped.increment(by: Double(batch.count), "refused")
    logger.error(
      "CloudWatch rejected metrics; dropping them",
      metadata: ["values": "\(batch.count)", "error": "\(CauseChain.text(error))"])
  }

  private func failed(_ error: any Error, _ remedy: String) {
    failures += 1
    let metadata: Logger.Metadata = [
      "error": "\(CauseChain.text(error))", "values": "\(queue.count)", "failures": "\(failures)",
      "remedy": "\(remedy)",
    ]
    // Once per series of failures; the counters have the rest.
    if failures == 1 {
      logger.warning("cannot publish metrics to CloudWatch; keeping them for the next attempt", metadata: metadata)
    } else {
      logger.debug("cannot publish metrics to CloudWatch", metadata: metadata)
    }
  }

  private func nextPause() -> Duration {
    guard failures > 0 else { return pause }
    let bound = min(CloudWatchPublisher.longestPause, pause * (1 << min(failures, 10)))
    // Between half of it and all of it.
    return max(pause, bound * (0.5 + time.random() / 2))
  }

  private func showQueue(since overflowed: Int) {
    metrics.waiting.set(Double(queue.count))
    let dropped = queue.overflowed - overflowed
    if dropped > 0 { metrics.dropped.increment(by: Double(dropped), "no_room") }
  }
}

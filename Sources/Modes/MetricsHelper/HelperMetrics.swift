// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve
internal import VPCTransport

/// The helper's Prometheus metrics: the sums, and its own state. docs/metrics.md says the same in words.
///
/// The six plain sums have the agents' own names, as in cni-metrics-helper of amazon-vpc-cni-k8s; the others have their
/// own prefix, so that they are not mixed with the agents' series.
struct HelperMetrics: Sendable {
  let registry = MetricRegistry()

  /// Six of `ClusterMetric.all`, by index.
  private let plain: [Int: MetricGauge]
  private let sums: MetricGauge
  private let counts: MetricCounter
  private let latency: MetricGauge
  private let agents: MetricGauge
  private let silent: MetricGauge
  private let failures: MetricCounter
  private let skippedLines: MetricCounter
  private let duplicates: MetricCounter
  private let roundSeconds: MetricHistogram
  private let lastRound: MetricGauge
  private let process: ProcessMetrics

  /// Values that CloudWatch has taken.
  let published: MetricCounter
  /// By CloudWatch's error code.
  let publishFailures: MetricCounter
  /// By why.
  let dropped: MetricCounter
  /// Values that wait to be sent.
  let waiting: MetricGauge

  init() {
    let registry = registry
    let name: (String) -> String = { "cni_metrics_helper_" + $0 }
    var plain: [Int: MetricGauge] = [:]
    for (index, metric) in ClusterMetric.all.enumerated() where metric.isServedPlain {
      plain[index] = registry.gauge(metric.series, "sum over the cluster's agents")
    }
    self.plain = plain
    sums = registry.gauge(name("sum"), "sums of gauges over the agents that answered", labels: ["metric"])
    counts = registry.counter(name("increments_total"), "increments of counters over all agents", labels: ["metric"])
    latency = registry.gauge(
      name("aws_api_latency_p99_ms"), "highest 0.99 quantile of an EC2 request of any agent, milliseconds")
    agents = registry.gauge(name("agents"), "agents in the last round", labels: ["state"])
    silent = registry.gauge(name("silent_agent"), "1 for an agent without an answer", labels: ["pod", "node"])
    failures = registry.counter(name("agent_failures_total"), "readings of an agent that failed", labels: ["cause"])
    skippedLines = registry.counter(name("skipped_lines_total"), "lines of agents that were no samples")
    duplicates = registry.counter(name("duplicate_samples_total"), "duplicate samples of a series")
    roundSeconds = registry.histogram(
      name("round_seconds"), "time to read all agents", buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60])
    lastRound = registry.gauge(name("last_round_timestamp_seconds"), "end of the last round with an answer")
    published = registry.counter(name("cloudwatch_values_total"), "values published to CloudWatch")
    publishFailures = registry.counter(
      name("cloudwatch_failures_total"), "failed CloudWatch calls", labels: ["code"])
    dropped = registry.counter(name("cloudwatch_dropped_total"), "values dropped", labels: ["reason"])
    waiting = registry.gauge(name("cloudwatch_waiting"), "values waiting to be sent to CloudWatch")
    process = ProcessMetrics(in: registry)
    forgetSums()
    lastRound.replaceAll([:])
  }

  /// An unknown value has no series: neither 0 nor an old value.
  private func forgetSums() {
    for gauge in plain.values { gauge.replaceAll([:]) }
    sums.replaceAll([:])
    latency.replaceAll([:])
  }

  /// Adds a round that ended at `moment`, seconds since 1970.
  func show(_ result: ScrapeRound.Result, at moment: Double) {
    agents.replaceAll([["answered"]: Double(result.answered), ["silent"]: Double(result.silent.count)])
    silent.replaceAll(
      Dictionary(result.silent.map { ([$0.agent.name, $0.agent.node], 1) }, uniquingKeysWith: { first, _ in first }))
    for (_, failure) in result.silent { failures.increment(failure.code.rawValue) }
    skippedLines.increment(by: Double(result.skippedLines))
    duplicates.increment(by: Double(result.duplicates))
    roundSeconds.observe(result.duration.inSeconds)
    guard result.answered > 0 else { return forgetSums() }
    lastRound.set(moment)
    // Each in one step, so that a scrape in this moment misses none.
    for (index, gauge) in plain { gauge.replaceAll(result.values[index].map { [[]: $0] } ?? [:]) }
    var gauges: [[String]: Double] = [:]
    var highest: Double?
    for (index, metric) in ClusterMetric.all.enumerated() {
      guard let value = result.values[index] else { continue }
      switch metric.kind {
      case .gauge: gauges[[metric.name]] = value
      case .counter: counts.increment(by: value, metric.name)
      case .latency: highest = value
      }
    }
    sums.replaceAll(gauges)
    latency.replaceAll(highest.map { [[]: $0] } ?? [:])
  }

  /// Prometheus's text, for a scrape.
  func text() -> String {
    process.collect()
    return registry.text()
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve

/// One agent's metrics, each family as one number.
struct AgentReading: Sendable, Hashable {
  /// By the order of `ClusterMetric.all`; nil if the agent has no such series.
  var values: [Double?] = Array(repeating: nil, count: ClusterMetric.all.count)
  /// The process's start by the agent's clock, seconds since 1970; nil if unknown.
  var processStart: Double?
  /// Lines that were no samples.
  var skippedLines = 0
  /// Duplicate samples of a series; the first one counts, as in Prometheus.
  var duplicates = 0
}

/// Parses one agent's text as a stream. Its memory does not grow with the text.
struct AgentTextReader: Sendable {
  /// The maximum number of samples of the requested series. This project's agents have at most 1,000 per family; each
  /// costs 16 bytes for duplicate detection.
  static let sampleLimit = 50_000

  private static let processStart = "process_start_time_seconds"
  private static let names = ClusterMetric.all.map(\.series) + [processStart]

  private var reader: MetricTextReader
  private var reading = AgentReading()
  private var seen: Set<Int> = []

  init(limits: MetricTextReader.Limits = MetricTextReader.Limits()) {
    reader = MetricTextReader(names: AgentTextReader.names, limits: limits)
  }

  mutating func read(_ bytes: [UInt8]) throws(AgentFailure) {
    var samples: [MetricTextReader.Sample] = []
    do {
      try reader.read(bytes.span) { samples.append($0) }
    } catch {
      throw AgentFailure(error)
    }
    for sample in samples { take(sample) }
    guard seen.count <= AgentTextReader.sampleLimit else {
      throw AgentFailure(.tooLarge, "more than \(AgentTextReader.sampleLimit) samples")
    }
  }

  /// The text has ended.
  ///
  /// - Throws: `AgentFailure` if the text is unusable.
  func finish() throws(AgentFailure) -> AgentReading {
    do {
      try reader.finish()
    } catch {
      throw AgentFailure(error)
    }
    var reading = reading
    reading.skippedLines = reader.skippedCount
    return reading
  }

  private mutating func take(_ sample: MetricTextReader.Sample) {
    guard sample.value.isFinite, seen.insert(AgentTextReader.identity(sample)).inserted else {
      // NaN is the value of a summary without observations.
      if sample.value.isFinite { reading.duplicates += 1 }
      return
    }
    guard sample.name < ClusterMetric.all.count else {
      reading.processStart = sample.value
      return
    }
    let old = reading.values[sample.name]
    switch ClusterMetric.all[sample.name].kind {
    case .gauge:
      reading.values[sample.name] = (old ?? 0) + sample.value
    case .counter:
      // A negative count is invalid.
      if sample.value >= 0 { reading.values[sample.name] = (old ?? 0) + sample.value }
    case .latency:
      // The wait for an attached ENI is not an API call, and longer than any.
      guard sample.label("quantile").flatMap({ Double($0) }) == 0.99,
        sample.label("api") != "waitForENIAndIPsAttached"
      else { return }
      reading.values[sample.name] = max(old ?? 0, sample.value)
    }
  }

  /// Equal for the same labels in any order; seeded per process, so that collisions cannot be forged.
  private static func identity(_ sample: MetricTextReader.Sample) -> Int {
    var sum = sample.name.hashValue
    for label in sample.labels {
      var hasher = Hasher()
      hasher.combine(label.name)
      hasher.combine(label.value)
      sum &+= hasher.finalize()
    }
    return sum
  }
}

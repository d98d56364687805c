// SPDX-License-Identifier: Apache-2.0

internal import VPCObserve

/// What one agent's metrics say, each family as one number.
struct AgentReading: Sendable, Hashable {
  /// By the order of `ClusterMetric.all`; nil where the agent has no such series.
  var values: [Double?] = Array(repeating: nil, count: ClusterMetric.all.count)
  /// The process's start by the agent's clock, seconds since 1970; nil where it does not say.
  var processStart: Double?
  /// Lines that were no samples.
  var skippedLines = 0
  /// Samples of a series that had one already; the first one counts, as for Prometheus.
  var duplicates = 0
}

/// Reads one agent's text as it comes. What it keeps does not grow with the text.
struct AgentTextReader: Sendable {
  /// Samples of the series that are asked for. An agent of ours has at most 1,000 of a family; each one that is kept to
  /// know a duplicate costs 16 bytes.
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
  /// - Throws: `AgentFailure` where it cannot be used as a whole.
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
      // Not a number is what a summary says that has seen nothing.
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
      // A count below zero is none.
      if sample.value >= 0 { reading.values[sample.name] = (old ?? 0) + sample.value }
    case .latency:
      // The wait for an attached ENI to show up is no call of the API, and longer than any.
      guard sample.label("quantile").flatMap({ Double($0) }) == 0.99,
        sample.label("api") != "waitForENIAndIPsAttached"
      else { return }
      reading.values[sample.name] = max(old ?? 0, sample.value)
    }
  }

  /// The same for the same labels in any order; seeded for each process, so that nobody can make two alike.
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

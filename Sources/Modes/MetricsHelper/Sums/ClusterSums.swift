// SPDX-License-Identifier: Apache-2.0

/// Sums a cluster's agents, round by round. A value: no I/O, no clock.
///
/// Gauges are the sums over the agents that answered in the round. Counters are increments: each agent's increase since
/// it was last read, however long ago. A restarted process counts from zero. An agent read for the first time adds its
/// full count if its process is younger than this helper's first round, and nothing otherwise.
struct ClusterSums: Sendable {
  private struct Agent: Sendable {
    var processStart: Double?
    /// By the order of `ClusterMetric.all`, 0 if there is none.
    var counts: [Double]
  }

  /// Start times that differ by less are equal: boot time and wall clock do not agree to the second.
  private static let startTolerance = 2.0

  private let watchingSince: Double
  private var agents: [String: Agent] = [:]
  private var sums = ClusterSums.nothing

  private static let nothing: [Double?] = Array(repeating: nil, count: ClusterMetric.all.count)

  /// - Parameter watchingSince: when the first round begins, seconds since 1970.
  init(watchingSince: Double) { self.watchingSince = watchingSince }

  /// How many agents are remembered.
  var agentCount: Int { agents.count }

  /// Starts a new round; agents that are no longer listed are dropped.
  ///
  /// - Parameter listed: the agents' pods, by uid.
  mutating func beginRound(listed: Set<String>) {
    sums = ClusterSums.nothing
    agents = agents.filter { listed.contains($0.key) }
  }

  /// An agent that answered in this round; once a round each.
  mutating func add(_ reading: AgentReading, of uid: String) {
    let known = agents[uid]
    let isNewProcess = known.map { ClusterSums.isRestart(from: $0, to: reading) } ?? isYounger(reading)
    var counts = Array(repeating: 0.0, count: ClusterMetric.all.count)
    for (index, metric) in ClusterMetric.all.enumerated() {
      let value = reading.values[index]
      switch metric.kind {
      case .gauge: if let value { sums[index] = (sums[index] ?? 0) + value }
      case .latency: if let value { sums[index] = max(sums[index] ?? 0, value) }
      case .counter:
        let before = isNewProcess ? 0 : known?.counts[index] ?? value ?? 0
        // Less than before in one process: lines were lost, and will come back.
        counts[index] = max(value ?? 0, before)
        if value != nil { sums[index] = (sums[index] ?? 0) + counts[index] - before }
      }
    }
    agents[uid] = Agent(processStart: reading.processStart, counts: counts)
  }

  /// The round's values by the order of `ClusterMetric.all`; nil if no answering agent has the series.
  var values: [Double?] { sums }

  /// Of an agent that is read for the first time.
  private func isYounger(_ reading: AgentReading) -> Bool {
    reading.processStart.map { $0 >= watchingSince } ?? false
  }

  /// A different start time; without a start time, any decreased count.
  private static func isRestart(from known: Agent, to reading: AgentReading) -> Bool {
    if let old = known.processStart, let new = reading.processStart { return abs(new - old) > startTolerance }
    return known.counts.indices.contains { (reading.values[$0] ?? 0) < known.counts[$0] }
  }
}

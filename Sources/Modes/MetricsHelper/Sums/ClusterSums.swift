// SPDX-License-Identifier: Apache-2.0

/// Adds up the agents of a cluster, round by round. A value: no I/O, no clock.
///
/// Gauges are the sums over the agents that answered in the round. Counters are increments: for each agent what it counted
/// since it was last read, however long ago that is. A process that started anew counts from zero. An agent that is read
/// for the first time adds what it has counted if its process is younger than this helper's first round, and nothing
/// otherwise: that was counted before anybody looked.
struct ClusterSums: Sendable {
  private struct Agent: Sendable {
    var processStart: Double?
    /// By the order of `ClusterMetric.all`, 0 where there is none.
    var counts: [Double]
  }

  /// Starts that differ by less are one: the time since boot and the calendar do not agree to the second.
  private static let startTolerance = 2.0

  private let watchingSince: Double
  private var agents: [String: Agent] = [:]
  private var sums = ClusterSums.nothing

  private static let nothing: [Double?] = Array(repeating: nil, count: ClusterMetric.all.count)

  /// - Parameter watchingSince: when the first round begins, seconds since 1970.
  init(watchingSince: Double) { self.watchingSince = watchingSince }

  /// How many agents are remembered.
  var agentCount: Int { agents.count }

  /// A new round; agents that are not listed any more are forgotten.
  ///
  /// - Parameter listed: the agents' pods, by what names one for good (their uid).
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
        // Less than before in one process: lines of the text were lost, and come again.
        counts[index] = max(value ?? 0, before)
        if value != nil { sums[index] = (sums[index] ?? 0) + counts[index] - before }
      }
    }
    agents[uid] = Agent(processStart: reading.processStart, counts: counts)
  }

  /// The round's values by the order of `ClusterMetric.all`; nil where no agent that answered has the series.
  var values: [Double?] { sums }

  /// Of an agent that is read for the first time.
  private func isYounger(_ reading: AgentReading) -> Bool {
    reading.processStart.map { $0 >= watchingSince } ?? false
  }

  /// Another start; where an agent does not tell its start, any count that went down.
  private static func isRestart(from known: Agent, to reading: AgentReading) -> Bool {
    if let old = known.processStart, let new = reading.processStart { return abs(new - old) > startTolerance }
    return known.counts.indices.contains { (reading.values[$0] ?? 0) < known.counts[$0] }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCTransport

/// Reads all agents once, with limited concurrency, and sums them.
struct ScrapeRound: Sendable {
  /// The result of a round.
  struct Result: Sendable {
    /// By the order of `ClusterMetric.all`; nil if no answering agent has the series.
    var values: [Double?] = []
    var answered = 0
    /// Agents without values in this round.
    var silent: [(agent: AgentPod, failure: AgentFailure)] = []
    var skippedLines = 0
    var duplicates = 0
    var duration = Duration.zero
  }

  let source: any AgentSource
  let width: Int
  let timeout: Duration
  let time: TimeSource

  /// - Parameters:
  ///   - agents: in the order in which they are read.
  ///   - deadline: no agent is read after it.
  ///   - sums: gets a round of its own.
  func run(
    _ agents: [AgentPod], until deadline: ContinuousClock.Instant, sums: inout ClusterSums
  ) async -> Result {
    let start = time.now()
    var result = Result()
    sums.beginRound(listed: Set(agents.map(\.uid)))
    await withTaskGroup(of: (AgentPod, Swift.Result<AgentReading, AgentFailure>).self) { group in
      var waiting = agents[...]
      func startNext() {
        guard !Task.isCancelled, time.now() < deadline, let agent = waiting.popFirst() else { return }
        group.addTask { (agent, await read(agent)) }
      }
      for _ in 0..<width { startNext() }
      while let (agent, outcome) = await group.next() {
        switch outcome {
        case .success(let reading):
          result.answered += 1
          result.skippedLines += reading.skippedLines
          result.duplicates += reading.duplicates
          sums.add(reading, of: agent.uid)
        case .failure(let failure): result.silent.append((agent, failure))
        }
        startNext()
      }
      let late = AgentFailure(.notReached, "the round ended before its turn came")
      result.silent += waiting.map { ($0, late) }
    }
    result.values = sums.values
    result.duration = start.duration(to: time.now())
    return result
  }

  private func read(_ agent: AgentPod) async -> Swift.Result<AgentReading, AgentFailure> {
    do throws(AgentFailure) {
      return .success(try await source.read(agent, within: timeout))
    } catch {
      return .failure(error)
    }
  }
}

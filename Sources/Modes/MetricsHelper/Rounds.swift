// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCSystem
internal import VPCTransport

/// Reads all agents every METRIC_UPDATE_INTERVAL, and passes the sums on.
struct Rounds: Sendable {
  /// The maximum number of agents named in one log line.
  private static let namesPerLine = 20

  let source: any AgentSource
  let settings: MetricsHelperSettings
  let metrics: HelperMetrics
  let publisher: CloudWatchPublisher?
  let time: TimeSource
  let logger: Logger

  /// Runs until the task is cancelled. A round that takes longer than the interval is stopped, and the next one starts
  /// at once.
  func run() async {
    var sums = ClusterSums(watchingSince: Double(UTCTime.now.milliseconds) / 1000)
    var silent = SilentAgents()
    while !Task.isCancelled {
      let agents = await source.agents()
      let next = time.now().advanced(by: settings.interval)
      await round(agents, until: next, &sums, &silent)
      do {
        try await time.sleep(max(.zero, time.now().duration(to: next)))
      } catch {
        return  // cancelled
      }
    }
  }

  private func round(
    _ agents: [AgentPod], until deadline: ContinuousClock.Instant, _ sums: inout ClusterSums,
    _ silent: inout SilentAgents
  ) async {
    let round = ScrapeRound(source: source, width: settings.width, timeout: settings.agentTimeout, time: time)
    let result = await round.run(silent.order(agents), until: deadline, sums: &sums)
    // A round interrupted by shutdown says nothing about the agents.
    guard !Task.isCancelled else { return }
    let moment = UTCTime.now
    metrics.show(result, at: Double(moment.milliseconds) / 1000)
    // No agent answered: the sums are unknown, but that fact is known.
    await publisher?.add(result, at: moment)
    tell(result, silent.take(result, listed: agents))
  }

  private func tell(_ result: ScrapeRound.Result, _ change: SilentAgents.Change) {
    logger.debug(
      "scrape round done",
      metadata: [
        "answered": "\(result.answered)", "silent": "\(result.silent.count)", "skipped.lines": "\(result.skippedLines)",
        "duplicates": "\(result.duplicates)", "after": "\(result.duration)",
      ])
    if !change.fell.isEmpty {
      logger.warning(
        "cannot scrape some agents; the sums exclude them",
        metadata: [
          "agents": "\(change.fell.count)",
          "names":
            "\(Rounds.names(change.fell.map { "\($0.agent.name) on \($0.agent.node): \($0.failure.code.rawValue)" }))",
          "error": "\(change.fell.first.map { CauseChain.text($0.failure) } ?? "")",
        ])
    }
    if !change.returned.isEmpty {
      logger.info(
        "agents can be scraped again",
        metadata: [
          "agents": "\(change.returned.count)", "names": "\(Rounds.names(change.returned.map(\.name)))",
        ])
    }
  }

  private static func names(_ names: [String]) -> String {
    names.prefix(namesPerLine).joined(separator: ", ")
      + (names.count > namesPerLine ? " and \(names.count - namesPerLine) more" : "")
  }
}

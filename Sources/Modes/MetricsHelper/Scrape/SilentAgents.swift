// SPDX-License-Identifier: Apache-2.0

/// The silent agents and for how many rounds: a value that decides what to log, and the reading order.
struct SilentAgents: Sendable {
  /// What changed with a round.
  struct Change: Sendable {
    /// Silent since this round.
    var fell: [(agent: AgentPod, failure: AgentFailure)] = []
    /// Silent before, but no longer.
    var returned: [AgentPod] = []
  }

  private var rounds: [String: Int] = [:]

  /// Adds a round; agents that are no longer listed are dropped silently.
  mutating func take(_ result: ScrapeRound.Result, listed: [AgentPod]) -> Change {
    var change = Change()
    var next: [String: Int] = [:]
    for (agent, failure) in result.silent {
      next[agent.uid] = (rounds[agent.uid] ?? 0) + 1
      if rounds[agent.uid] == nil { change.fell.append((agent, failure)) }
    }
    change.returned = listed.filter { rounds[$0.uid] != nil && next[$0.uid] == nil }
    rounds = next
    return change
  }

  /// Agents that answered last time come first, so that agents with timeouts only delay each other.
  func order(_ agents: [AgentPod]) -> [AgentPod] {
    guard !rounds.isEmpty else { return agents }
    return agents.filter { rounds[$0.uid] == nil }
      + agents.filter { rounds[$0.uid] != nil }.sorted { rounds[$0.uid, default: 0] < rounds[$1.uid, default: 0] }
  }
}

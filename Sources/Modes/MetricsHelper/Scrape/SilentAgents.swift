// SPDX-License-Identifier: Apache-2.0

/// Who is silent, for how many rounds: a value that says what is worth a line of the log, and in which order to read.
struct SilentAgents: Sendable {
  /// What changed with a round.
  struct Change: Sendable {
    /// Silent since this round.
    var fell: [(agent: AgentPod, failure: AgentFailure)] = []
    /// Silent before, and not any more.
    var returned: [AgentPod] = []
  }

  private var rounds: [String: Int] = [:]

  /// Takes in a round; agents that are not listed any more are forgotten without a word.
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

  /// Those that answered last time come first, so that agents that run into their deadline delay nobody but each other.
  func order(_ agents: [AgentPod]) -> [AgentPod] {
    guard !rounds.isEmpty else { return agents }
    return agents.filter { rounds[$0.uid] == nil }
      + agents.filter { rounds[$0.uid] != nil }.sorted { rounds[$0.uid, default: 0] < rounds[$1.uid, default: 0] }
  }
}

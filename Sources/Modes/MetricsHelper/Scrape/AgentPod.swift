// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// A pod that runs an agent, as the API server describes it.
struct AgentPod: Sendable, Hashable {
  /// Unique: another pod with the same name has a different one.
  let uid: String
  let name: String
  /// Empty if the pod has none yet.
  let node: String
  let address: IPAddress?
  /// It is being deleted.
  var isTerminating = false

  /// The agent's metrics (docs/metrics.md).
  static let port = 61_678
}

extension AgentPod {
  /// One agent of each node, in an order that does not change from round to round. Agents use the host network: all
  /// agent pods of a node share one address and return the metrics of the running one. A pod that is being deleted
  /// counts only until its successor runs.
  static func onePerNode(_ pods: [AgentPod]) -> [AgentPod] {
    var chosen: [String: AgentPod] = [:]
    for pod in pods.sorted(by: { $0.name < $1.name }) {
      let key = pod.node.isEmpty ? pod.uid : "node \(pod.node)"
      if let other = chosen[key], pod.isTerminating || !other.isTerminating { continue }
      chosen[key] = pod
    }
    return chosen.values.sorted { $0.name < $1.name }
  }
}

/// Finds and reads the agents: the edge of the process.
protocol AgentSource: Sendable {
  /// The known agent pods, however old; waits for the first listing, or until the task is cancelled.
  func agents() async -> [AgentPod]

  /// Reads an agent's metrics within `timeout`.
  func read(_ agent: AgentPod, within timeout: Duration) async throws(AgentFailure) -> AgentReading
}

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

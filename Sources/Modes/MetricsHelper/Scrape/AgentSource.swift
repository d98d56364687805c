// SPDX-License-Identifier: Apache-2.0

/// Where the agents are found and read: the edge of the process.
protocol AgentSource: Sendable {
  /// The agents' pods as they are known, however old that is; waits for the first listing, or until the task is
  /// cancelled.
  func agents() async -> [AgentPod]

  /// Reads an agent's metrics within `timeout`.
  func read(_ agent: AgentPod, within timeout: Duration) async throws(AgentFailure) -> AgentReading
}

// SPDX-License-Identifier: Apache-2.0

/// Finds and reads the agents: the edge of the process.
protocol AgentSource: Sendable {
  /// The known agent pods, however old; waits for the first listing, or until the task is cancelled.
  func agents() async -> [AgentPod]

  /// Reads an agent's metrics within `timeout`.
  func read(_ agent: AgentPod, within timeout: Duration) async throws(AgentFailure) -> AgentReading
}

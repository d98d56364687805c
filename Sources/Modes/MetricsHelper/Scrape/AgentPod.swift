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

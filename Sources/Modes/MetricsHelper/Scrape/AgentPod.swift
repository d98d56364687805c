// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// A pod that runs an agent, as the API server describes it.
struct AgentPod: Sendable, Hashable {
  /// Names the pod for good: another pod of the same name has another.
  let uid: String
  let name: String
  /// Empty where the pod has none yet.
  let node: String
  let address: IPAddress?

  /// The agent's metrics (docs/metrics.md).
  static let port = 61_678
}

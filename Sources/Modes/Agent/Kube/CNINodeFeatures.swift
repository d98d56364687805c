// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// Writes the features for the VPC resource controller into the node's CNINode: `SecurityGroupsForPods`, and with an
/// ENIConfig that is not `default` also `CustomNetworking`. Source: contract of amazon-vpc-cni-k8s v1.23, node objects.
struct CNINodeFeatures: Sendable {
  let nodeName: String
  let usesCustomNetworking: Bool
  let state: ClusterState
  let time: TimeSource
  let logger: Logger

  private static let waits = RetryPolicy(attempts: Int.max, base: .seconds(2), cap: .seconds(120))

  static func features(eniConfigName: String?) -> [CNINode.Feature] {
    var features = [CNINode.Feature(name: "SecurityGroupsForPods")]
    if let eniConfigName, eniConfigName != "default" {
      features.append(CNINode.Feature(name: "CustomNetworking", value: eniConfigName))
    }
    return features
  }

  /// Writes the features, and again whenever the ENIConfig's name changes, until cancelled.
  func run(_ client: KubeClient) async {
    var announced: [CNINode.Feature] = []
    for await _ in state.changes() {
      let name = state.content.eniConfigName
      if usesCustomNetworking && name == nil { continue }
      let wanted = CNINodeFeatures.features(eniConfigName: usesCustomNetworking ? name : nil)
      guard wanted != announced else { continue }
      guard await announce(wanted, client) else { return }
      announced = wanted
    }
  }

  /// Retries until it succeeds: the controller creates the object some time after the node.
  ///
  /// - Returns: false if cancelled.
  private func announce(_ wanted: [CNINode.Feature], _ client: KubeClient) async -> Bool {
    var failures = 0
    while !Task.isCancelled {
      do throws(KubeError) {
        let node = try await client.get(CNINode.self, nodeName)
        if let patch = node.patch(adding: wanted) {
          _ = try await client.mergePatch(CNINode.self, nodeName, patch, version: node.metadata.resourceVersion)
          logger.notice("CNINode features set", metadata: ["features": "\(wanted.map(\.name))"])
        }
        state.settled("CNINode")
        return true
      } catch {
        failures += 1
        if error.code != .conflict { state.failed("CNINode", error, on: .cniNodes, verbs: "get and patch") }
        // A conflict is no failure: somebody else wrote, and the object is read again.
        if failures == 1, error.code != .conflict, !Task.isCancelled {
          logger.warning("cannot patch the CNINode; will retry", metadata: ["error": "\(CauseChain.text(error))"])
        }
      }
      let wait = CNINodeFeatures.waits.bound(after: failures) * (0.5 + time.random() / 2)
      guard (try? await time.sleep(wait)) != nil else { return false }
    }
    return false
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A pod's name and annotations, for the node agent's watch. A node may have hundreds of pods, and most of each is
/// specification.
package struct KubePodMetadata: KubeObject, Hashable {
  package let metadata: KubeMetadata

  package static let resource = KubeResource.pods
  package static let fields: JSONSelection = [:]
  package static let isMetadataOnly = true

  package init(_ json: JSONValue) throws(KubeObjectError) { metadata = try KubeMetadata(of: json) }
}

/// A pod, with the fields that its node's agent and the metrics helper use.
package struct KubePod: KubeObject, Hashable {
  package let metadata: KubeMetadata
  /// `spec.nodeName`; empty if it is not scheduled.
  package let node: String
  package let usesHostNetwork: Bool
  /// `status.podIP`; empty if it has none yet.
  package let address: String
  /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
  package let phase: String
  /// It is being deleted.
  package let isTerminating: Bool

  package static let resource = KubeResource.pods
  package static let fields: JSONSelection = [
    "spec": ["nodeName": .all, "hostNetwork": .all], "status": ["podIP": .all, "phase": .all],
  ]

  package init(_ json: JSONValue) throws(KubeObjectError) {
    metadata = try KubeMetadata(of: json)
    node = json["spec"]?["nodeName"]?.string ?? ""
    usesHostNetwork = json["spec"]?["hostNetwork"]?.bool ?? false
    address = json["status"]?["podIP"]?.string ?? ""
    phase = json["status"]?["phase"]?.string ?? ""
    isTerminating = json["metadata"]?["deletionTimestamp"]?.string != nil
  }
}

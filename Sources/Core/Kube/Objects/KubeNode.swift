// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A node: how many pods it may have, and whether new ones are sent to it.
package struct KubeNode: KubeObject, Hashable {
  package let metadata: KubeMetadata
  /// `status.capacity.pods`; nil if the kubelet has not set it yet.
  package let podCapacity: Int?
  /// It carries the taint `node.kubernetes.io/unschedulable:NoSchedule`, which a cordon sets.
  package let isUnschedulable: Bool

  package static let resource = KubeResource.nodes
  package static let fields: JSONSelection = [
    "spec": ["taints": ["key": .all, "effect": .all]], "status": ["capacity": ["pods": .all]],
  ]
  package static let unschedulableTaint = "node.kubernetes.io/unschedulable"

  package init(_ json: JSONValue) throws(KubeObjectError) {
    metadata = try KubeMetadata(of: json)
    let taints = json["spec"]?["taints"]?.array ?? []
    isUnschedulable = taints.contains {
      $0["key"]?.string == KubeNode.unschedulableTaint && $0["effect"]?.string == "NoSchedule"
    }
    guard let pods = json["status"]?["capacity"]?["pods"], pods != .null else {
      podCapacity = nil
      return
    }
    // A quantity is a string, or sometimes a number.
    guard let count = pods.int ?? pods.string.flatMap({ Int($0) }), (0...1_000_000).contains(count) else {
      throw KubeObjectError(
        object: metadata.key, field: "status.capacity.pods",
        reason: "is \(pods.text.prefix(40)) and not a number of pods")
    }
    podCapacity = count
  }
}

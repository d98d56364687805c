// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Tags and description of the ENIs that the agent makes. Source: contract of amazon-vpc-cni-k8s v1.23, ENI tags.
struct ENITags: Sendable {
  static let instanceKey = "node.k8s.amazonaws.com/instance_id"
  static let unmanagedKey = "node.k8s.amazonaws.com/no_manage"
  static let createdKey = "node.k8s.amazonaws.com/createdAt"
  static let clusterKey = "cluster.k8s.amazonaws.com/name"
  private static let ownerKey = "eks:eni:owner"
  /// The prefix of every description that an agent writes.
  static let descriptionPrefix = "aws-K8S-"

  let instanceID: String
  /// CLUSTER_NAME; empty if unset.
  let clusterName: String
  /// ADDITIONAL_ENI_TAGS, which may replace any but the reserved keys.
  let additional: [String: String]

  var description: String { ENITags.descriptionPrefix + instanceID }

  /// - Parameter created: RFC 3339.
  func forNewENI(created: String) -> [String: String] {
    wanted.merging([ENITags.createdKey: created]) { own, _ in own }
  }

  /// The tags that a managed ENI with `tags` lacks or has with a different value.
  func missing(from tags: [String: String]) -> [String: String] { wanted.filter { tags[$0.key] != $0.value } }

  private var wanted: [String: String] {
    var tags = [ENITags.instanceKey: instanceID]
    if !clusterName.isEmpty {
      tags[ENITags.clusterKey] = clusterName
      tags[ENITags.ownerKey] = "amazon-vpc-cni"
    }
    return tags.merging(additional) { _, own in own }
  }
}

// SPDX-License-Identifier: Apache-2.0

/// What one address belongs to: one interface of one sandbox in one network. The checkpoint's and the RPC's key.
package struct AttachmentKey: Sendable, Hashable {
  /// The name of the CNI configuration, `aws-cni`.
  package let networkName: String
  /// CNI_CONTAINERID.
  package let containerID: String
  /// CNI_IFNAME.
  package let ifName: String

  package init(networkName: String, containerID: String, ifName: String) {
    self.networkName = networkName
    self.containerID = containerID
    self.ifName = ifName
  }

  /// The key that amazon-vpc-cni-k8s gave to allocations migrated from the container runtime's socket, without network
  /// and interface. DEL tries it after the exact key.
  package static func migrated(containerID: String) -> AttachmentKey {
    AttachmentKey(networkName: "_migrated-from-cri", containerID: containerID, ifName: "unknown")
  }

  /// Whether no part is empty: amazon-vpc-cni-k8s refuses a request with an empty part.
  package var isComplete: Bool { !networkName.isEmpty && !containerID.isEmpty && !ifName.isEmpty }

  /// Hashes only the container: there is one network, a sandbox has few interfaces, and hashing is a third of the cost
  /// of an assignment.
  package func hash(into hasher: inout Hasher) {
    hasher.combine(containerID)
  }
}

/// A pod's namespace and name; both empty if the checkpoint does not have them.
package struct PodName: Sendable, Hashable, CustomStringConvertible {
  package let namespace: String
  package let name: String

  package init(namespace: String, name: String) {
    self.namespace = namespace
    self.name = name
  }

  package var description: String { "\(namespace)/\(name)" }
}

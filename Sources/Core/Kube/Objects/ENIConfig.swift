// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// `ENIConfig` of crd.k8s.amazonaws.com/v1alpha1: subnet and security groups of ENIs for pods.
package struct ENIConfig: KubeObject, Hashable {
  package let metadata: KubeMetadata
  package let subnet: SubnetID
  /// In order; empty for the primary ENI's groups.
  package let securityGroups: [String]

  package static let resource = KubeResource.eniConfigs
  package static let fields: JSONSelection = ["spec": ["subnet": .all, "securityGroups": .all]]
  /// More than EC2 allows for one ENI.
  private static let maximumGroups = 64

  package init(_ json: JSONValue) throws(KubeObjectError) {
    metadata = try KubeMetadata(of: json)
    let object = "ENIConfig \(metadata.name)"
    guard let text = json["spec"]?["subnet"]?.string, !text.isEmpty else {
      throw KubeObjectError(object: object, field: "spec.subnet", reason: "is missing")
    }
    guard let subnet = SubnetID(text) else {
      throw KubeObjectError(
        object: object, field: "spec.subnet", reason: "is \"\(text.prefix(40))\" and not a subnet's id")
    }
    self.subnet = subnet
    var groups: [String] = []
    let written = json["spec"]?["securityGroups"] ?? .null
    guard written == .null || written.array != nil else {
      throw KubeObjectError(object: object, field: "spec.securityGroups", reason: "is \(written.kind) and not a list")
    }
    for group in written.array ?? [] {
      guard let id = group.string, id.hasPrefix("sg-"), id.utf8.count <= 64,
        id.utf8.allSatisfy({ (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d })
      else {
        throw KubeObjectError(
          object: object, field: "spec.securityGroups",
          reason: "has \(group.text.prefix(40)), which is not a group's id")
      }
      if !groups.contains(id) { groups.append(id) }
    }
    guard groups.count <= ENIConfig.maximumGroups else {
      throw KubeObjectError(object: object, field: "spec.securityGroups", reason: "has \(groups.count) groups")
    }
    securityGroups = groups
  }
}

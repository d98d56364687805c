// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// `CNINode` of vpcresources.k8s.aws/v1alpha1: the node agent's requests to the VPC resource controller.
package struct CNINode: KubeObject, Hashable {
  package struct Feature: Sendable, Hashable {
    package let name: String
    /// Empty if there is none.
    package let value: String

    package init(name: String, value: String = "") {
      self.name = name
      self.value = value
    }

    var json: JSONValue { value.isEmpty ? ["name": .string(name)] : ["name": .string(name), "value": .string(value)] }
  }

  package let metadata: KubeMetadata
  package let features: [Feature]

  package static let resource = KubeResource.cniNodes
  package static let fields: JSONSelection = ["spec": ["features": ["name": .all, "value": .all]]]

  package init(_ json: JSONValue) throws(KubeObjectError) {
    metadata = try KubeMetadata(of: json)
    var features: [Feature] = []
    for feature in json["spec"]?["features"]?.array ?? [] {
      guard let name = feature["name"]?.string else {
        throw KubeObjectError(
          object: "CNINode \(metadata.name)", field: "spec.features", reason: "has one without a name")
      }
      features.append(Feature(name: name, value: feature["value"]?.string ?? ""))
    }
    self.features = features
  }

  /// The merge patch that adds `wanted` to the features: an old value is replaced, others stay in order.
  ///
  /// - Returns: nil if all of them are already present.
  package func patch(adding wanted: [Feature]) -> JSONValue? {
    var merged = features
    for feature in wanted {
      merged.removeAll { $0.name == feature.name && $0 != feature }
      if !merged.contains(feature) { merged.append(feature) }
    }
    guard merged != features else { return nil }
    // A merge patch replaces lists whole: hence the version that goes with it.
    return ["spec": ["features": .array(merged.map(\.json))]]
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A kind of object, with the fields used here.
package protocol KubeObject: Sendable {
  static var resource: KubeResource { get }
  /// The fields read besides the metadata.
  static var fields: JSONSelection { get }
  var metadata: KubeMetadata { get }
  /// Nothing but the metadata is used, so nothing else crosses the network.
  static var isMetadataOnly: Bool { get }

  /// - Throws: `KubeObjectError` naming the field that is missing or of another kind.
  init(_ json: JSONValue) throws(KubeObjectError)
}

extension KubeObject {
  package static var isMetadataOnly: Bool { false }
}

/// An object with an invalid field.
package struct KubeObjectError: Error, Hashable, CustomStringConvertible {
  /// `NAMESPACE/NAME` or `NAME`, if known.
  package let object: String
  /// Such as `spec.subnet`.
  package let field: String
  package let reason: String

  package init(object: String, field: String, reason: String) {
    self.object = object
    self.field = field
    self.reason = reason
  }

  package var description: String { "\(object.isEmpty ? "an object" : object): \(field) \(reason)" }
}

/// What every object has.
package struct KubeMetadata: Sendable, Hashable {
  package var name: String
  /// Empty for a kind without namespaces.
  package var namespace: String
  package var uid: String
  package var resourceVersion: String
  package var labels: [String: String]
  package var annotations: [String: String]

  package init(
    name: String, namespace: String = "", uid: String = "", resourceVersion: String = "",
    labels: [String: String] = [:],
    annotations: [String: String] = [:]
  ) {
    self.name = name
    self.namespace = namespace
    self.uid = uid
    self.resourceVersion = resourceVersion
    self.labels = labels
    self.annotations = annotations
  }

  static let fields: JSONSelection = [
    "name": .all, "namespace": .all, "uid": .all, "resourceVersion": .all, "labels": .all, "annotations": .all,
    "deletionTimestamp": .all,
  ]

  /// All fields read from an object of that kind.
  static func fields<Object: KubeObject>(of type: Object.Type) -> JSONSelection {
    guard case .members(var members) = Object.fields else { return .all }
    members["metadata"] = fields
    return .members(members)
  }

  /// - Parameter object: the whole object.
  package init(of object: JSONValue) throws(KubeObjectError) {
    guard let name = object["metadata"]?["name"]?.string, !name.isEmpty else {
      throw KubeObjectError(object: "", field: "metadata.name", reason: "is missing")
    }
    let metadata = object["metadata"]
    self.init(
      name: name, namespace: metadata?["namespace"]?.string ?? "", uid: metadata?["uid"]?.string ?? "",
      resourceVersion: metadata?["resourceVersion"]?.string ?? "", labels: KubeMetadata.texts(metadata?["labels"]),
      annotations: KubeMetadata.texts(metadata?["annotations"]))
  }

  /// `NAMESPACE/NAME`, or `NAME`.
  package var key: String { namespace.isEmpty ? name : "\(namespace)/\(name)" }

  private static func texts(_ value: JSONValue?) -> [String: String] {
    var texts: [String: String] = [:]
    for member in value?.object?.members ?? [] { texts[member.key] = member.value.string }
    return texts
  }
}

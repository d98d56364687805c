// SPDX-License-Identifier: Apache-2.0

/// A kind of object, by its API path.
package struct KubeResource: Sendable, Hashable {
  /// `/api/v1` or `/apis/GROUP/VERSION`.
  package let root: String
  /// Lower case, as in URLs and RBAC rules.
  package let plural: String
  package let isNamespaced: Bool

  package init(root: String, plural: String, isNamespaced: Bool) {
    self.root = root
    self.plural = plural
    self.isNamespaced = isNamespaced
  }

  package static let nodes = KubeResource(root: "/api/v1", plural: "nodes", isNamespaced: false)
  package static let pods = KubeResource(root: "/api/v1", plural: "pods", isNamespaced: true)
  package static let events = KubeResource(root: "/apis/events.k8s.io/v1", plural: "events", isNamespaced: true)
  package static let eniConfigs = KubeResource(
    root: "/apis/crd.k8s.amazonaws.com/v1alpha1", plural: "eniconfigs", isNamespaced: false)
  package static let cniNodes = KubeResource(
    root: "/apis/vpcresources.k8s.aws/v1alpha1", plural: "cninodes", isNamespaced: false)

  /// As RBAC rules and `kubectl auth can-i` name it: `nodes`, `eniconfigs.crd.k8s.amazonaws.com`.
  package var qualifiedName: String {
    let parts = root.split(separator: "/")
    return parts.first == "apis" && parts.count > 1 ? "\(plural).\(parts[1])" : plural
  }

  /// The path of all objects, or of one namespace if given.
  func collection(in namespace: String?) -> String {
    guard isNamespaced, let namespace else { return "\(root)/\(plural)" }
    return "\(root)/namespaces/\(namespace)/\(plural)"
  }
}

/// Selects objects of a kind. The server filters; nothing else crosses the network.
package struct KubeSelector: Sendable, Hashable {
  /// `metadata.name=NAME`, `spec.nodeName=NAME`; empty for none.
  package var fields: String
  /// `k8s-app=aws-node`; empty for none.
  package var labels: String
  /// The server has an in-memory index for these, and they are few. A watch's first list may then come from memory
  /// (unpaged: the server ignores the page limit there); a longer list comes from its store, page by page.
  package var isIndexed: Bool

  package init(fields: String = "", labels: String = "", isIndexed: Bool = false) {
    self.fields = fields
    self.labels = labels
    self.isIndexed = isIndexed
  }

  package static func name(_ name: String) -> KubeSelector {
    KubeSelector(fields: "metadata.name=\(name)", isIndexed: true)
  }
  package static func onNode(_ name: String) -> KubeSelector {
    KubeSelector(fields: "spec.nodeName=\(name)", isIndexed: true)
  }
}

/// The query of a request, in the order in which it was built.
struct KubeQuery {
  private(set) var text = ""

  mutating func add(_ name: String, _ value: String) {
    guard !value.isEmpty else { return }
    text += (text.isEmpty ? "?" : "&") + name + "=" + KubeQuery.encoded(value)
  }

  mutating func add(_ selector: KubeSelector) {
    add("fieldSelector", selector.fields)
    add("labelSelector", selector.labels)
  }

  /// RFC 3986's unreserved characters as they are, everything else by its bytes.
  static func encoded(_ text: String) -> String {
    var out = ""
    let hex = Array("0123456789ABCDEF")
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
        out.unicodeScalars.append(Unicode.Scalar(byte))
      default:
        out.append("%")
        out.append(hex[Int(byte >> 4)])
        out.append(hex[Int(byte & 15)])
      }
    }
    return out
  }
}

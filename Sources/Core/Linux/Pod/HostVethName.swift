// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The name of the host end of a pod's veth pair.
///
/// The name is a contract between components: the plugin creates the interface, the agent finds it after a restart and
/// deletes it after answering DEL, and the network policy agent attaches to it. Source: contract of amazon-vpc-cni-k8s
/// v1.23, ADD step 3.
package enum HostVethName {
  /// The number of hex digits taken from the digest.
  package static let suffixLength = 11

  /// The part that identifies the pod: the first 11 hex digits of SHA-1 of `namespace.podname`; for an interface
  /// `index` above 0, of `namespace.podname.index`.
  ///
  /// - Parameters:
  ///   - namespace: the pod's Kubernetes namespace.
  ///   - pod: the pod's name.
  ///   - index: 0 for the pod's first interface.
  package static func suffix(namespace: String, pod: String, index: Int = 0) -> String {
    let text = index == 0 ? "\(namespace).\(pod)" : "\(namespace).\(pod).\(index)"
    return String(HexDigits.encode(Digest.sha1(Array(text.utf8))).prefix(suffixLength))
  }

  /// The interface's name.
  ///
  /// - Parameter prefix: AWS_VPC_K8S_CNI_VETHPREFIX, by default `eni`; at most 4 bytes.
  /// - Returns: nil if prefix and digits together are not a valid interface name.
  package static func name(prefix: String, namespace: String, pod: String, index: Int = 0) -> InterfaceName? {
    InterfaceName(prefix + suffix(namespace: namespace, pod: pod, index: index))
  }

  /// The two parts of a name in this contract: a prefix of one to four letters and digits, and the pod's digits; nil
  /// for any other name.
  package static func split(_ name: String) -> (prefix: String, suffix: String)? {
    let bytes = name.utf8
    guard (1...4).contains(bytes.count - suffixLength) else { return nil }
    let digits = bytes.suffix(suffixLength)
    let isPrefix = bytes.dropLast(suffixLength).allSatisfy {
      48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0
    }
    guard isPrefix, digits.allSatisfy({ 48...57 ~= $0 || 97...102 ~= $0 }) else { return nil }
    return (String(decoding: bytes.dropLast(suffixLength), as: UTF8.self), String(decoding: digits, as: UTF8.self))
  }

  /// Links with a pod-like name, `PREFIX…`, that are not pods': pod rules apply to their packets too.
  package static func strangers(among links: [Link], prefix: String) -> [Link] {
    links.filter { link in
      link.name.hasPrefix(prefix) && (split(link.name)?.prefix != prefix || link.kind != "veth")
    }
  }
}

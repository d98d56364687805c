// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// What Kubernetes says of the pod in CNI_ARGS: `KEY=VALUE` pairs joined by semicolons.
struct PodArguments: Sendable, Hashable {
  var podName = ""
  var podNamespace = ""
  var infraContainerID = ""
  var podUID = ""

  init() {}

  /// Reads CNI_ARGS; an empty text gives empty names.
  ///
  /// - Throws: code 4 for a pair without `=`, a key of no meaning here unless `IgnoreUnknown` is true, a name that
  ///   Kubernetes would not have given.
  init(text: String) throws(CNIError) {
    var unknown: [String] = []
    var ignoresUnknown = false
    // By bytes: a walk over characters looks each one's boundaries up.
    for pair in text.utf8.split(separator: UInt8(ascii: ";")) {
      guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else {
        throw CNIError(.invalidEnvironment, "CNI_ARGS: invalid pair \(String(Substring(pair)).quoted)")
      }
      let key = String(Substring(pair[..<equals]))
      let value = String(Substring(pair[pair.index(after: equals)...]))
      switch key {
      case "K8S_POD_NAME": podName = try PodArguments.name(value, key: key, limit: 253)
      case "K8S_POD_NAMESPACE": podNamespace = try PodArguments.name(value, key: key, limit: 63)
      case "K8S_POD_INFRA_CONTAINER_ID": infraContainerID = try PodArguments.name(value, key: key, limit: 256)
      case "K8S_POD_UID": podUID = try PodArguments.name(value, key: key, limit: 256)
      case "IgnoreUnknown": ignoresUnknown = try PodArguments.boolean(value)
      default: unknown.append(key)
      }
    }
    if !ignoresUnknown, let first = unknown.first {
      throw CNIError(.invalidEnvironment, "CNI_ARGS: unknown argument \(first.quoted) and no IgnoreUnknown=true")
    }
  }

  /// The names end in a host interface's name, in logs and in the agent's files; nothing but what Kubernetes allows
  /// in names passes, upper case and `_` excepted, which runtimes put into sandbox ids.
  private static func name(_ text: String, key: String, limit: Int) throws(CNIError) -> String {
    guard text.utf8.count <= limit else {
      throw CNIError(.invalidEnvironment, "CNI_ARGS: \(key) is longer than \(limit) bytes")
    }
    guard text.isEmpty || CNIRequest.isIdentifier(text) else {
      throw CNIError(.invalidEnvironment, "CNI_ARGS: invalid characters in \(key): \(text.quoted)")
    }
    return text
  }

  private static func boolean(_ text: String) throws(CNIError) -> Bool {
    switch text {
    case "1", "true", "True", "TRUE": return true
    case "0", "false", "False", "FALSE": return false
    default: throw CNIError(.invalidEnvironment, "CNI_ARGS: IgnoreUnknown is neither true nor false: \(text.quoted)")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// Kubernetes' pod data in CNI_ARGS: `KEY=VALUE` pairs joined by semicolons.
struct PodArguments: Sendable, Hashable {
  var podName = ""
  var podNamespace = ""
  var infraContainerID = ""
  var podUID = ""

  init() {}

  /// Reads CNI_ARGS; an empty text gives empty names.
  ///
  /// - Throws: code 4 for a pair without `=`, an unknown key unless `IgnoreUnknown` is true, or an invalid Kubernetes
  ///   name.
  init(text: String) throws(CNIError) {
    var unknown: [String] = []
    var ignoresUnknown = false
    // By bytes: iterating over characters is slower.
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

  /// The names become part of a host interface's name, of logs and of the agent's files; only characters that
  /// Kubernetes allows in names are accepted, plus upper case and `_`, which runtimes use in sandbox ids.
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

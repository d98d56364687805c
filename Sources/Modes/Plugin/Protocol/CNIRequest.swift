// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel

/// One call of a runtime, its environment checked by the rules of the specification.
struct CNIRequest: Sendable, Hashable {
  let command: CNICommand
  /// Letters, digits, `_`, `.` and `-`; empty for commands that name no container.
  let containerID: String
  /// The path of the pod's network namespace; empty if DEL comes without one.
  let netns: String
  /// The pod's interface, usually `eth0`; nil for commands that name none.
  let interface: InterfaceName?
  let arguments: PodArguments
  /// CNI_NETNS_OVERRIDE: the runtime deliberately uses the plugin's own namespace as the pod's.
  let allowsOwnNamespace: Bool

  /// Reads the protocol's environment variables.
  ///
  /// - Parameter environment: all variables; only those of `CNIParameter` are used.
  /// - Throws: code 4, with the variable's name in the message.
  init(environment: [String: String]) throws(CNIError) {
    for parameter in CNIParameter.allCases where (environment[parameter.rawValue]?.utf8.count ?? 0) > parameter.limit {
      throw CNIError(.invalidEnvironment, "\(parameter.rawValue) is longer than \(parameter.limit) bytes")
    }
    let value = { (parameter: CNIParameter) in environment[parameter.rawValue] ?? "" }
    guard !value(.command).isEmpty else {
      throw CNIError(.invalidEnvironment, "required env variables [CNI_COMMAND] missing")
    }
    guard let command = CNICommand(rawValue: value(.command)) else {
      throw CNIError(.invalidEnvironment, "unknown CNI_COMMAND: \(value(.command).quoted)")
    }
    let missing = command.needs.filter { value($0).isEmpty }.map(\.rawValue)
    guard missing.isEmpty else {
      throw CNIError(.invalidEnvironment, "required env variables [\(missing.joined(separator: ","))] missing")
    }
    self.command = command
    containerID = value(.containerID)
    netns = value(.netns)
    allowsOwnNamespace = !value(.netnsOverride).isEmpty
    guard containerID.isEmpty || CNIRequest.isIdentifier(containerID) else {
      throw CNIError(.invalidEnvironment, "invalid characters in CNI_CONTAINERID: \(containerID.quoted)")
    }
    guard !netns.utf8.contains(0) else { throw CNIError(.invalidEnvironment, "CNI_NETNS contains a zero byte") }
    if command.needs.contains(.interface) {
      interface = try CNIRequest.interface(value(.interface))
      arguments = try PodArguments(text: value(.arguments))
    } else {
      interface = nil
      arguments = PodArguments()
    }
  }

  /// A container's or a network's name: a letter or digit, then letters, digits, `_`, `.`, `-`.
  /// Source: CNI specification, section "Parameters" and "Configuration format".
  static func isIdentifier(_ text: String) -> Bool {
    let isAlphanumeric = { (byte: UInt8) in 48...57 ~= byte || 65...90 ~= byte || 97...122 ~= byte }
    guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || $0 == 0x5f || $0 == 0x2e || $0 == 0x2d }
  }

  private static func interface(_ text: String) throws(CNIError) -> InterfaceName {
    if text.utf8.count > 15 {
      throw CNIError(.invalidEnvironment, "CNI_IFNAME is longer than 15 bytes: \(text.quoted)")
    }
    if text == "." || text == ".." { throw CNIError(.invalidEnvironment, "CNI_IFNAME must not be \(text.quoted)") }
    guard let name = InterfaceName(text) else {
      throw CNIError(.invalidEnvironment, "CNI_IFNAME contains / or : or whitespace characters: \(text.quoted)")
    }
    return name
  }
}

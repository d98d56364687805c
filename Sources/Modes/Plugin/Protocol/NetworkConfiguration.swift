// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The network configuration from standard input, one plugin's part of the conflist.
///
/// It is read in two steps, so that errors carry the right version and DEL continues if ADD would refuse: `init`
/// accepts everything it understands, `check()` throws for the first invalid member.
struct NetworkConfiguration: Sendable, Hashable {
  /// The maximum size of standard input in bytes, and the maximum nesting.
  static let limits = JSONParser.Limits(size: 1 << 20, depth: 64)

  let version: CNIVersion
  /// The network's name, part of the agent's key for an address.
  let name: String
  /// At most 4 bytes.
  private(set) var vethPrefix = "eni"
  private(set) var mtu: UInt32 = 9001
  /// The enforcing mode of security groups for pods; any text, as in amazon-vpc-cni-k8s.
  private(set) var podSGEnforcingMode = "strict"
  /// A path, `stderr`, or empty, which means the same.
  private(set) var pluginLogFile = ""
  private(set) var pluginLogLevel = "debug"
  /// The pod's annotation requests an address of every network card.
  private(set) var requiresMultiNICAttachment = false
  private(set) var previousResult: CNIResult?
  /// `previousResult` verbatim, to keep unknown members.
  private(set) var previousResultJSON: JSONValue?
  /// GC: the attachments that are in use. Nil without the key.
  private(set) var validAttachments: [Attachment]?
  /// Problems in members that DEL does not need.
  private(set) var problems: [String] = []

  /// A container's interface in this network.
  struct Attachment: Sendable, Hashable {
    let containerID: String
    let interface: String
  }

  /// - Parameter text: standard input, whole.
  /// - Throws: code 6 for what is not JSON or not an object, 1 for an unknown `cniVersion`, 7 for a missing or
  ///   invalid `name`.
  init(_ text: [UInt8]) throws(CNIError) { try self.init(json: NetworkConfiguration.document(text)) }

  /// - Throws: code 6 for what is not JSON or not an object.
  static func document(_ text: [UInt8]) throws(CNIError) -> JSONValue {
    guard text.count <= NetworkConfiguration.limits.size else {
      throw CNIError(.undecodable, "network config: more than \(NetworkConfiguration.limits.size) bytes")
    }
    let json: JSONValue
    do {
      json = try JSONParser.parse(text, limits: NetworkConfiguration.limits)
    } catch {
      throw CNIError(.undecodable, "network config: \(error)")
    }
    guard json.object != nil else { throw CNIError(.undecodable, "network config is \(json.kind), not an object") }
    return json
  }

  /// - Parameter json: what `document` returns.
  init(json: JSONValue) throws(CNIError) {
    version = try NetworkConfiguration.version(json["cniVersion"])
    let name = json["name"] ?? .null
    guard let text = name == .null ? "" : name.string else {
      throw CNIError(.undecodable, "network config: name is \(name.kind), not a string")
    }
    guard !text.isEmpty else { throw CNIError(.invalidConfiguration, "missing network name") }
    guard text.utf8.count <= 256, CNIRequest.isIdentifier(text) else {
      throw CNIError(.invalidConfiguration, "invalid characters found in network name: \(text.quoted)")
    }
    self.name = text
    readKeys(json)
    readRuntimeKeys(json)
  }

  /// - Throws: code 7 with the name of the member that is wrong.
  func check() throws(CNIError) {
    if let first = problems.first { throw CNIError(.invalidConfiguration, "network config: \(first)") }
  }

  private static func version(_ json: JSONValue?) throws(CNIError) -> CNIVersion {
    guard let json, json != .null, json.string != "" else { return .unnamed }
    guard let text = json.string else {
      throw CNIError(.undecodable, "network config: cniVersion is \(json.kind), not a string")
    }
    guard let version = CNIVersion(rawValue: text) else {
      let known = CNIVersion.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw CNIError(
        .incompatibleVersion, "incompatible CNI versions",
        details: "config cniVersion is \(text.quoted), plugin supports [\(known)]")
    }
    return version
  }

  private mutating func readKeys(_ json: JSONValue) {
    if let text = string(json, "vethPrefix") {
      if text.utf8.count > 4 {
        problems.append("vethPrefix can be at most 4 characters long, not \(text.quoted)")
      } else if text.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7f || $0 == 0x2f || $0 == 0x3a || $0 == 0x25 }) {
        problems.append("vethPrefix cannot begin an interface's name: \(text.quoted)")
      } else if !text.isEmpty {
        vethPrefix = text
      }
    }
    // Outside the range or not a number: the default, without an error, as in the contract.
    let number = json["mtu"].flatMap { $0.int ?? $0.string.flatMap { Int($0) } }
    if let number, (576...9001).contains(number) { mtu = UInt32(number) }
    podSGEnforcingMode = string(json, "podSGEnforcingMode") ?? podSGEnforcingMode
    pluginLogLevel = string(json, "pluginLogLevel") ?? pluginLogLevel
    if let path = string(json, "pluginLogFile") {
      if LogFileName.isStdout(path) {
        problems.append("pluginLogFile must not be stdout, which carries the result")
      } else if path.utf8.count > 4095 || path.utf8.contains(0) {
        problems.append("pluginLogFile is not a path: \(path.quoted)")
      } else {
        pluginLogFile = path
      }
    }
    if let json = json["prevResult"], json != .null {
      do {
        previousResult = try CNIResult(json, version: version)
        previousResultJSON = json
      } catch {
        problems.append(error.description)
      }
    }
  }

  private mutating func readRuntimeKeys(_ json: JSONValue) {
    let annotations = json["runtimeConfig"]?["io.kubernetes.cri.pod-annotations"]
    requiresMultiNICAttachment = annotations?["k8s.amazonaws.com/nicConfig"]?.string == "multi-nic-attachment"
    guard let list = json["cni.dev/valid-attachments"], list != .null else { return }
    guard let items = list.array else {
      problems.append("cni.dev/valid-attachments is \(list.kind), not an array")
      return
    }
    var attachments: [Attachment] = []
    for (index, item) in items.enumerated() {
      guard let containerID = item["containerID"]?.string, let interface = item["ifname"]?.string else {
        problems.append("cni.dev/valid-attachments[\(index)] lacks containerID or ifname")
        return
      }
      attachments.append(Attachment(containerID: containerID, interface: interface))
    }
    validAttachments = attachments
  }

  private mutating func string(_ json: JSONValue, _ key: String) -> String? {
    guard let value = json[key], value != .null else { return nil }
    if let text = value.string { return text }
    problems.append("\(key) is \(value.kind), not a string")
    return nil
  }
}

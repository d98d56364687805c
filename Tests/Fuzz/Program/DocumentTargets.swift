// SPDX-License-Identifier: Apache-2.0

import VPCModel

@testable import NodeMode
@testable import PluginMode
@testable import VPCKube

/// JSON and YAML documents.
enum DocumentTargets {
  @Sendable static func json(_ bytes: [UInt8]) {
    let limits = JSONParser.Limits(size: 1 << 16, depth: 20)
    guard let value = try? JSONParser.parse(bytes, limits: limits) else { return }
    let written = value.bytes
    require(
      (try? JSONParser.parse(written, limits: JSONParser.Limits(size: 1 << 20, depth: 20))) == value,
      "a value is written so that it reads the same")
    require(
      (try? JSONParser.parse(Array(value.indented(by: 2).utf8), limits: JSONParser.Limits(size: 8 << 20, depth: 20)))
        == value, "an indented value reads the same")
    guard
      let part = try? JSONParser.parse(bytes, limits: limits, keeping: ["allocations": ["ipv4": .all], "a": .all])
    else { preconditionFailure("a selection of a valid text is valid") }
    require(part.bytes.count <= written.count, "a selection is not larger than the whole")
  }

  @Sendable static func checkpoint(_ bytes: [UInt8]) {
    let result = CheckpointReader.read(bytes)
    require(result.findings.count <= CheckpointReader.maximumFindings)
    let again = CheckpointReader.read(result.checkpoint.encoded())
    require(again.checkpoint == result.checkpoint, "a checkpoint is written so that it reads the same")
    require(again.findings.isEmpty)
  }

  /// Standard input of the plugin; the environment variables follow the last zero byte.
  @Sendable static func cniConfiguration(_ bytes: [UInt8]) {
    let split = bytes.lastIndex(of: 0) ?? bytes.endIndex
    let arguments = bytes[split...].dropFirst()
    _ = try? CNIRequest(environment: [
      "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": "/var/run/netns/n", "CNI_IFNAME": "eth0",
      "CNI_ARGS": String(decoding: arguments, as: UTF8.self),
    ])
    if let egress = try? EgressConfiguration(Array(bytes[..<split])), let plan = try? egress.plan() {
      require(plan.folder.hasPrefix("/") && !plan.folder.split(separator: "/").contains(".."))
      require(plan.ranges.allSatisfy { $0.subnet.family == plan.nodeAddress.family && $0.first <= $0.last })
    }
    guard let configuration = try? NetworkConfiguration(Array(bytes[..<split])) else { return }
    do throws(CNIError) {
      try configuration.check()
    } catch {
      require(error.json(version: configuration.version).object != nil)
    }
    guard let previous = configuration.previousResult, let json = configuration.previousResultJSON else { return }
    var added = CNIResult()
    added.interfaces = [CNIResult.Interface(name: "eth0")]
    let own = added.json(version: configuration.version)
    let whole = ChainResult.append(own, to: json, version: configuration.version)
    require((try? JSONParser.parse(whole.bytes, limits: JSONParser.Limits(size: 8 << 20, depth: 80))) == whole)
    guard previous.interfaces.count < CNIResult.maximumInterfaces else { return }
    require((try? CNIResult(whole, version: configuration.version)) != nil, "a chained result is a result")
    guard let interface = InterfaceName("eth0") else { return }
    _ = PreviousPod(previous, interface: interface, arguments: PodArguments())
  }

  private static let nodeSettings = try? NodeSettings(environment: ["ENABLE_BANDWIDTH_PLUGIN": "true"])

  @Sendable static func conflist(_ bytes: [UInt8]) {
    guard let settings = nodeSettings else { preconditionFailure("the default settings are valid") }
    guard let made = try? Conflist(template: bytes, path: "-", settings: settings) else { return }
    let limits = JSONParser.Limits(size: 8 * Conflist.sizeLimit)
    require((try? JSONParser.parse(Array(made.text.utf8), limits: limits)) == made.document)
  }

  @Sendable static func kubeconfig(_ bytes: [UInt8]) {
    if let value = try? YAMLReader.parse(bytes) {
      // An alias repeats the content of its anchor.
      require(value.bytes.count <= 64 * bytes.count + 64, "the value of a YAML text is bounded by the text")
    }
    // A relative path leads below a folder that does not exist.
    guard let found = try? KubeconfigFile.configuration(of: bytes, "/nonexistent/kubeconfig") else { return }
    require(found.server.hasPrefix("http") && !found.server.hasSuffix("/"))
    require(!found.server.utf8.contains { $0 <= 0x20 || $0 == UInt8(ascii: "@") || $0 == UInt8(ascii: "?") })
  }

  /// Watch events, one per line, and the objects in them.
  @Sendable static func kubeObjects(_ bytes: [UInt8]) {
    var lines = LineSplitter(limit: 1 << 14)
    for line in lines.feed(bytes) {
      guard case .whole(let text) = line, let event = try? JSONParser.parse(text) else { continue }
      let object = event["object"] ?? event
      if let node = try? KubeNode(object) {
        require(!node.metadata.name.isEmpty && (node.podCapacity ?? 0) >= 0)
      }
      if let config = try? ENIConfig(object) { require(config.securityGroups.allSatisfy { $0.hasPrefix("sg-") }) }
      _ = try? KubePod(object)
      if let features = try? CNINode(object) { _ = features.patch(adding: [CNINode.Feature(name: "x", value: "z")]) }
    }
  }
}

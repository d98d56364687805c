// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The network configuration list for the container runtime, created from a template and the settings.
///
/// Source: contract of amazon-vpc-cni-k8s, section 3; what a list must hold is the CNI specification's ("Configuration
/// format").
struct Conflist {
  /// Its file name in the host's configuration folder.
  static let fileName = "10-aws.conflist"
  /// Whether the runtime prefers a file with that name: it uses the first configuration by name.
  static func isTakenBefore(_ name: String) -> Bool {
    name < fileName && [".conf", ".conflist", ".json"].contains(where: name.hasSuffix)
  }

  /// Of a template, and of the list that comes of it.
  static let sizeLimit = 1 << 20

  let document: JSONValue
  /// Notes for the operator, one sentence each; to be logged.
  let notes: [String]

  /// The file's whole content.
  var text: String { document.indented(by: 2) + "\n" }

  /// The template used if the operator mounts none.
  static let builtIn: JSONValue = [
    "cniVersion": "0.4.0", "name": "aws-cni", "disableCheck": true,
    "plugins": .array([
      [
        "name": "aws-cni", "type": "aws-cni", "vethPrefix": "__VETHPREFIX__", "mtu": "__MTU__",
        "podSGEnforcingMode": "__PODSGENFORCINGMODE__", "pluginLogFile": "__PLUGINLOGFILE__",
        "pluginLogLevel": "__PLUGINLOGLEVEL__", "capabilities": ["io.kubernetes.cri.pod-annotations": true],
      ],
      [
        "name": "egress-cni", "type": "egress-cni", "mtu": "__MTU__", "enabled": "__EGRESSPLUGINENABLED__",
        "randomizeSNAT": "__RANDOMIZESNAT__", "nodeIP": "__NODEIP__",
        "ipam": [
          "type": "host-local", "ranges": .array([.array([["subnet": "__EGRESSPLUGINIPAMSUBNET__"]])]),
          "routes": .array([["dst": "__EGRESSPLUGINIPAMDST__"]]), "dataDir": "__EGRESSPLUGINIPAMDATADIR__",
        ],
        "pluginLogFile": "__EGRESSPLUGINLOGFILE__", "pluginLogLevel": "__PLUGINLOGLEVEL__",
      ],
      ["type": "portmap", "capabilities": ["portMappings": true], "snat": true],
    ]),
  ]

  /// - Parameters:
  ///   - template: the operator's own, a file's content; nil takes `builtIn`.
  ///   - path: the template's, for errors.
  ///   - nodeAddress: the node's address of the family that pods do not have; nil without egress.
  /// - Throws: `ConflistError` for a list that no runtime accepts.
  init(
    template: [UInt8]?, path: String, settings: NodeSettings, nodeAddress: IPAddress? = nil
  ) throws(ConflistError) {
    let placeholders = ConflistPlaceholders(settings, nodeAddress: nodeAddress)
    let filled = placeholders.fill(template ?? Conflist.builtIn.bytes)
    var document: JSONValue
    do {
      document = try JSONParser.parse(filled.text, limits: JSONParser.Limits(size: Conflist.sizeLimit))
    } catch {
      throw ConflistError(path: path, problem: "\(error) (offset after placeholders were filled in)")
    }
    var notes = filled.unknown.map { "\($0) is not a placeholder and stays unchanged" }
    var plugins = try Conflist.plugins(of: document, path)
    notes += Conflist.notesOnEgress(settings, nodeAddress, plugins)
    if !plugins.contains(where: { $0["type"]?.string == "aws-cni" }) {
      notes.append("the template has no entry of type aws-cni: pods get no address from this agent")
    }
    for extra in Conflist.additions(settings) where !plugins.contains(where: { $0["type"] == extra["type"] }) {
      plugins.append(extra)
    }
    guard !plugins.isEmpty, var object = document.object else {
      throw ConflistError(path: path, problem: "\"plugins\" is empty")
    }
    object["plugins"] = .array(plugins)
    document = .object(object)
    self.document = document
    self.notes = notes
  }

  /// The entry stays if egress is off: egress-cni then passes its input through, and cleans up after pods that were made
  /// while it was on.
  private static func notesOnEgress(
    _ settings: NodeSettings, _ nodeAddress: IPAddress?, _ plugins: [JSONValue]
  ) -> [String] {
    guard settings.asksForEgress else { return [] }
    let (setting, family) = settings.agent.family == .ipv6 ? ("ENABLE_V4_EGRESS", "IPv4") : ("ENABLE_V6_EGRESS", "IPv6")
    if nodeAddress == nil {
      return ["\(setting) is true, but the node has no \(family) address: egress-cni is disabled"]
    }
    if !plugins.contains(where: { $0["type"]?.string == "egress-cni" }) {
      return ["\(setting) is true, but the template has no entry of type egress-cni: pods get no \(family) egress"]
    }
    if settings.disablesPodIPv6, settings.agent.family == .ipv4 {
      return ["DISABLE_POD_V6 switches off the IPv6 that ENABLE_V6_EGRESS gives to pods: set one of them to false"]
    }
    return []
  }

  /// Plugins that the settings add after the template's, in the contract's order.
  private static func additions(_ settings: NodeSettings) -> [JSONValue] {
    var entries: [JSONValue] = []
    if settings.usesBandwidthPlugin { entries.append(["type": "bandwidth", "capabilities": ["bandwidth": true]]) }
    if settings.disablesPodIPv6 {
      entries.append([
        "type": "tuning",
        "sysctl": [
          "net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1",
          "net.ipv6.conf.lo.disable_ipv6": "1",
        ],
      ])
    }
    return entries
  }

  /// The entries, each an object with a `type`, of a list with a name.
  private static func plugins(of document: JSONValue, _ path: String) throws(ConflistError) -> [JSONValue] {
    func refuse(_ field: String, _ value: JSONValue?, _ wanted: String) -> ConflistError {
      ConflistError(path: path, problem: "\(field) is \(value?.kind ?? "missing"), must be \(wanted)")
    }
    guard document.object != nil else { throw refuse("the document", document, "an object") }
    guard document["name"]?.string?.isEmpty == false else {
      throw refuse("\"name\"", document["name"], "a string that is not empty")
    }
    guard let version = document["cniVersion"], version.string != nil else {
      throw refuse("\"cniVersion\"", document["cniVersion"], "a string")
    }
    guard let plugins = document["plugins"]?.array else {
      throw refuse("\"plugins\"", document["plugins"], "an array of objects")
    }
    for (index, plugin) in plugins.enumerated() {
      guard plugin.object != nil else { throw refuse("\"plugins\"[\(index)]", plugin, "an object") }
      guard let type = plugin["type"]?.string, !type.isEmpty, !type.utf8.contains(UInt8(ascii: "/")) else {
        throw refuse("\"plugins\"[\(index)].type", plugin["type"], "the name of a plugin")
      }
    }
    return plugins
  }
}

/// An invalid conflist template.
struct ConflistError: Error, Hashable, CustomStringConvertible {
  let path: String
  let problem: String

  var description: String { "template \(path): \(problem)" }
}

extension NodeSettings {
  /// Whether pods are to reach the family that they have no address of.
  var asksForEgress: Bool { agent.family == .ipv6 ? hasV4Egress : agent.hasV6Egress }
}

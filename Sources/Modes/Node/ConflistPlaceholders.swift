// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The placeholders of a template, `__NAME__`, and their values.
struct ConflistPlaceholders {
  /// By name without the underscores.
  let values: [String: String]

  /// - Parameter nodeAddress: for egress-cni, which is disabled without it.
  init(_ settings: NodeSettings, nodeAddress: IPAddress? = nil) {
    let agent = settings.agent
    let isIPv6 = agent.family == .ipv6
    values = [
      "VETHPREFIX": agent.vethPrefix,
      "MTU": "\(agent.podMTU)",
      "PODSGENFORCINGMODE": agent.podSecurityGroupMode.rawValue,
      "PLUGINLOGFILE": settings.pluginLogFile,
      "PLUGINLOGLEVEL": settings.pluginLogLevel,
      "RANDOMIZESNAT": agent.snatPorts.rawValue,
      "EGRESSPLUGINENABLED": "\(settings.asksForEgress && nodeAddress != nil)",
      "EGRESSPLUGINIPAMSUBNET": isIPv6 ? "169.254.172.0/22" : "fd00::ac:00/118",
      "EGRESSPLUGINIPAMDST": isIPv6 ? "0.0.0.0/0" : "::/0",
      "EGRESSPLUGINIPAMDATADIR": isIPv6 ? "/run/cni/v6pd/egress-v4-ipam" : "/run/cni/v4pd/egress-v6-ipam",
      "EGRESSPLUGINLOGFILE": isIPv6 ? settings.egressV4LogFile : settings.egressV6LogFile,
      "NODEIP": settings.asksForEgress ? nodeAddress?.description ?? "" : "",
    ]
  }

  /// Inserts the values, each escaped for a JSON string.
  ///
  /// - Returns: the text, and unknown placeholders, once each, in order.
  func fill(_ template: [UInt8]) -> (text: [UInt8], unknown: [String]) {
    var text: [UInt8] = []
    var unknown: [String] = []
    var at = 0
    while at < template.count {
      guard let name = ConflistPlaceholders.name(in: template, at: at) else {
        text.append(template[at])
        at += 1
        continue
      }
      let length = name.utf8.count + 4
      if let value = values[name] {
        text += JSONValue.string(value).bytes.dropFirst().dropLast()
      } else {
        text += template[at..<at + length]
        if !unknown.contains("__\(name)__") { unknown.append("__\(name)__") }
      }
      at += length
    }
    return (text, unknown)
  }

  /// The NAME of `__NAME__` that begins there: capital letters and digits, at most 64.
  private static func name(in text: [UInt8], at start: Int) -> String? {
    let mark = UInt8(ascii: "_")
    guard start + 4 < text.count, text[start] == mark, text[start + 1] == mark else { return nil }
    let name = text[(start + 2)...].prefix(65).prefix { 65...90 ~= $0 || 48...57 ~= $0 }
    let end = name.endIndex
    guard (1...64).contains(name.count), end + 1 < text.count, text[end] == mark, text[end + 1] == mark else {
      return nil
    }
    return String(decoding: name, as: UTF8.self)
  }
}

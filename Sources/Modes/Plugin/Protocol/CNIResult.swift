// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The result of ADD, which later calls get as `prevResult`, in the terms of specification 1.x.
struct CNIResult: Sendable, Hashable {
  struct Interface: Sendable, Hashable {
    var name: String
    /// Not always a MAC address: see `PodResult`.
    var mac = ""
    var sandbox = ""
  }

  struct Address: Sendable, Hashable {
    var prefix: AssignedAddress
    /// Index into `interfaces`.
    var interface: Int?
    var gateway: IPAddress?
  }

  /// Limits for a `prevResult`, which other chained plugins may have extended.
  static let maximumInterfaces = 256
  static let maximumAddresses = 256

  var interfaces: [Interface] = []
  var addresses: [Address] = []

  /// The object in the form of `version`: `ip4`/`ip6` without interfaces before 0.3.0 (the first address of each
  /// family), `ips[].version` up to 0.4.0, and an empty `dns` object below 1.0.0, as amazon-vpc-cni-k8s prints it.
  func json(version: CNIVersion) -> JSONValue {
    var object: JSONObject = ["cniVersion": .string(version.rawValue)]
    if version.hasOneAddressPerFamily {
      for (key, family) in [("ip4", AddressFamily.ipv4), ("ip6", .ipv6)] {
        guard let address = addresses.first(where: { $0.prefix.family == family }) else { continue }
        var entry: JSONObject = ["ip": .string(address.prefix.description)]
        if let gateway = address.gateway { entry["gateway"] = .string(gateway.description) }
        object[key] = .object(entry)
      }
      object["dns"] = .object(JSONObject())
      return .object(object)
    }
    if !interfaces.isEmpty { object["interfaces"] = .array(interfaces.map(\.json)) }
    if !addresses.isEmpty { object["ips"] = .array(addresses.map { $0.json(version: version) }) }
    if version < .v100 { object["dns"] = .object(JSONObject()) }
    return .object(object)
  }
}

extension CNIResult.Interface {
  fileprivate var json: JSONValue {
    var object: JSONObject = ["name": .string(name)]
    if !mac.isEmpty { object["mac"] = .string(mac) }
    if !sandbox.isEmpty { object["sandbox"] = .string(sandbox) }
    return .object(object)
  }
}

extension CNIResult.Address {
  fileprivate func json(version: CNIVersion) -> JSONValue {
    var object = JSONObject()
    if version.saysAddressVersion { object["version"] = .string(prefix.family == .ipv4 ? "4" : "6") }
    if let interface { object["interface"] = .integer(interface) }
    object["address"] = .string(prefix.description)
    if let gateway { object["gateway"] = .string(gateway.description) }
    return .object(object)
  }
}

/// An interface's address with the length of its subnet: unlike `IPPrefix`, host bits may be set.
struct AssignedAddress: Sendable, Hashable, CustomStringConvertible {
  let address: IPAddress
  let length: Int

  /// A pod's address, alone in its subnet: /32 or /128.
  init(single address: IPAddress) {
    self.address = address
    length = address.family.bitWidth
  }

  /// Reads `ADDRESS/LENGTH`.
  init?(_ text: String) {
    guard let prefix = IPPrefix(normalizing: text),
      let address = text.split(separator: "/").first.flatMap({ IPAddress(String($0)) })
    else { return nil }
    self.address = address
    length = prefix.length
  }

  var family: AddressFamily { address.family }

  var description: String { "\(address)/\(length)" }
}

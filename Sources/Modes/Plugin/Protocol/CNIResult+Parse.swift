// SPDX-License-Identifier: Apache-2.0

import VPCModel

extension CNIResult {
  /// Why a `prevResult` cannot be used; the text names the member.
  struct Malformed: Error, Sendable, Hashable, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = "prevResult: \(description)" }
  }

  /// Reads a `prevResult`.
  ///
  /// - Parameters:
  ///   - json: the member's value.
  ///   - version: the configuration's; the result's own `cniVersion` takes precedence if present.
  /// - Throws: `Malformed` if it is not a valid result of that version.
  init(_ json: JSONValue, version: CNIVersion) throws(Malformed) {
    guard let object = json.object else { throw Malformed("is \(json.kind), not an object") }
    var version = version
    if let own = object["cniVersion"], own != .null {
      guard let known = own.string.flatMap(CNIVersion.init(rawValue:)) else {
        throw Malformed("unknown cniVersion \((own.string ?? own.kind).quoted)")
      }
      // Appending to it (`ChainResult`) would keep members that nobody has checked, and lose its addresses.
      guard version.hasOneAddressPerFamily || !known.hasOneAddressPerFamily else {
        throw Malformed("cniVersion \(known.rawValue.quoted) does not fit the configuration's \(version.rawValue)")
      }
      version = known
    }
    if version.hasOneAddressPerFamily {
      for key in ["ip4", "ip6"] {
        if let address = try CNIResult.only(object[key], key: key) { addresses.append(address) }
      }
      return
    }
    interfaces = try CNIResult.list(object["interfaces"], name: "interfaces", limit: CNIResult.maximumInterfaces) {
      (item, name) throws(Malformed) in try Interface(item, name: name)
    }
    let count = interfaces.count
    addresses = try CNIResult.list(object["ips"], name: "ips", limit: CNIResult.maximumAddresses) {
      (item, name) throws(Malformed) in try Address(item, name: name, interfaces: count)
    }
  }

  private static func list<Item>(
    _ json: JSONValue?, name: String, limit: Int, item: (JSONValue, String) throws(Malformed) -> Item
  ) throws(Malformed) -> [Item] {
    guard let json, json != .null else { return [] }
    guard let items = json.array else { throw Malformed("\(name) is \(json.kind), not an array") }
    guard items.count <= limit else { throw Malformed("\(name) has \(items.count) items, more than \(limit)") }
    var result: [Item] = []
    for (index, value) in items.enumerated() { result.append(try item(value, "\(name)[\(index)]")) }
    return result
  }

  /// The one address of a family in a 0.1.0 or 0.2.0 result.
  private static func only(_ json: JSONValue?, key: String) throws(Malformed) -> Address? {
    guard let json, json != .null else { return nil }
    guard let prefix = json["ip"]?.string.flatMap(AssignedAddress.init) else {
      throw Malformed("\(key).ip is not an address with a prefix length")
    }
    return Address(prefix: prefix, interface: nil, gateway: try gateway(json["gateway"], name: key))
  }

  fileprivate static func gateway(_ json: JSONValue?, name: String) throws(Malformed) -> IPAddress? {
    guard let json, json != .null, json.string != "" else { return nil }
    guard let address = json.string.flatMap(IPAddress.init) else {
      throw Malformed("\(name).gateway is not an address")
    }
    return address
  }
}

extension CNIResult.Interface {
  fileprivate init(_ json: JSONValue, name path: String) throws(CNIResult.Malformed) {
    guard json.object != nil else { throw .init("\(path) is \(json.kind), not an object") }
    var texts: [String] = []
    for key in ["name", "mac", "sandbox"] {
      let value = json[key] ?? .null
      guard let text = value == .null ? "" : value.string else {
        throw .init("\(path).\(key) is \(value.kind), not a string")
      }
      texts.append(text)
    }
    self.init(name: texts[0], mac: texts[1], sandbox: texts[2])
  }
}

extension CNIResult.Address {
  fileprivate init(_ json: JSONValue, name path: String, interfaces: Int) throws(CNIResult.Malformed) {
    guard let prefix = json["address"]?.string.flatMap(AssignedAddress.init) else {
      throw .init("\(path).address is not an address with a prefix length")
    }
    var index: Int?
    if let value = json["interface"], value != .null {
      guard let number = value.int, (0..<interfaces).contains(number) else {
        throw .init("\(path).interface is not the index of an interface")
      }
      index = number
    }
    self.init(prefix: prefix, interface: index, gateway: try CNIResult.gateway(json["gateway"], name: path))
  }
}

// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel

/// The network configuration of `egress-cni` from standard input.
///
/// | key | value |
/// |---|---|
/// | `enabled` | `"true"`; anything else passes the previous result through |
/// | `mtu` | a number as a string |
/// | `nodeIP` | the node's address of the other family, which decides the direction |
/// | `randomizeSNAT` | `none`, `hashrandom`, or anything else for `--random-fully` |
/// | `ipam` | what the CNI plugin host-local reads: `dataDir`, `ranges`, `routes` |
///
/// As for `NetworkConfiguration`, DEL continues where ADD refuses. Source: contract of amazon-vpc-cni-k8s v1.23, egress-cni.
struct EgressConfiguration: Sendable, Hashable {
  let network: NetworkConfiguration
  /// The whole document.
  private let json: JSONValue

  /// host-local's own default.
  private static let defaultDataFolder = "/var/lib/cni/networks"
  private static let maximumRanges = 16
  private static let maximumRoutes = 32

  /// What ADD makes.
  struct Plan: Sendable, Hashable {
    let nodeAddress: IPAddress
    let mtu: UInt32
    let randomization: HostRules.Randomization
    /// Of the reservations.
    let folder: String
    /// Of the family of `nodeAddress`; not empty.
    let ranges: [AddressRange]
    let destinations: [IPPrefix]
  }

  /// - Throws: as `NetworkConfiguration.init`.
  init(_ text: [UInt8]) throws(CNIError) {
    json = try NetworkConfiguration.document(text)
    network = try NetworkConfiguration(json: json)
  }

  var isEnabled: Bool { json["enabled"]?.string == "true" }

  /// The family of the node's address; nil if there is none.
  var family: AddressFamily? { json["nodeIP"]?.string.flatMap { IPAddress($0) }?.family }

  /// The folder of the network's reservations.
  ///
  /// - Throws: code 7 for a `dataDir` that is not an absolute path or leads upwards.
  func folder() throws(CNIError) -> String {
    let value = json["ipam"]?["dataDir"] ?? .null
    guard let text = value == .null ? "" : value.string else { throw wrong("ipam.dataDir", value, "a string") }
    if text.isEmpty { return "\(Self.defaultDataFolder)/\(network.name)" }
    let isSound =
      text.utf8.first == UInt8(ascii: "/") && text.utf8.count <= 2048 && text.utf8.allSatisfy { $0 >= 0x20 }
      && !text.split(separator: "/").contains("..")
    guard isSound else { throw wrong("ipam.dataDir", value, "an absolute path without \"..\"") }
    return "\(text)/\(network.name)"
  }

  /// The number is checked even if the plugin is disabled, as in amazon-vpc-cni-k8s.
  ///
  /// - Throws: code 7 for a value that is not a number.
  func mtu() throws(CNIError) -> Int {
    let value = json["mtu"] ?? .null
    guard let number = value.int ?? value.string.flatMap({ Int($0) }) else {
      throw wrong("mtu", value, "a number in a string, like \"9001\" (POD_MTU or AWS_VPC_ENI_MTU)")
    }
    return number
  }

  /// - Throws: code 7 with the member, its value and what it must be.
  func plan() throws(CNIError) -> Plan {
    let node = json["nodeIP"] ?? .null
    guard let nodeAddress = node.string.flatMap({ IPAddress($0) }), nodeAddress.isGlobalUnicast else {
      throw wrong(
        "nodeIP", node,
        "the node's address of the other family; restart aws-node on this node to write the conflist again")
    }
    let number = try mtu()
    let least = nodeAddress.family == .ipv4 ? 68 : 1280
    guard (least...65535).contains(number) else {
      throw wrong("mtu", json["mtu"], "\(least) to 65535 (POD_MTU or AWS_VPC_ENI_MTU)")
    }
    let kind = json["ipam"]?["type"] ?? .null
    guard kind.string == "host-local" else { throw wrong("ipam.type", kind, "\"host-local\"") }
    return Plan(
      nodeAddress: nodeAddress, mtu: UInt32(number), randomization: randomization, folder: try folder(),
      ranges: try ranges(nodeAddress), destinations: try destinations(nodeAddress.family))
  }

  private var randomization: HostRules.Randomization {
    switch json["randomizeSNAT"]?.string {
    case "none": .none
    case "hashrandom": .hashed
    default: .fully
    }
  }

  private func ranges(_ node: IPAddress) throws(CNIError) -> [AddressRange] {
    let value = json["ipam"]?["ranges"] ?? .null
    // One set: each set would give the pod one more address.
    guard let sets = value.array, sets.count == 1, let set = sets.first?.array,
      (1...Self.maximumRanges).contains(set.count)
    else { throw wrong("ipam.ranges", value, "one list with one list of 1 to \(Self.maximumRanges) ranges") }
    var ranges: [AddressRange] = []
    for (index, item) in set.enumerated() {
      let name = "ipam.ranges[0][\(index)]"
      guard let subnet = item["subnet"]?.string.flatMap({ IPPrefix($0) }) else {
        throw wrong("\(name).subnet", item["subnet"], "ADDRESS/LENGTH without host bits")
      }
      guard subnet.family == node.family else {
        throw wrong("\(name).subnet", item["subnet"], "of the family of nodeIP \(node)")
      }
      var ends: [IPAddress?] = []
      for key in ["rangeStart", "rangeEnd", "gateway"] {
        let text = item[key] ?? .null
        let address = text.string.flatMap { IPAddress($0) }
        guard text == .null || address != nil else { throw wrong("\(name).\(key)", text, "an address") }
        ends.append(address)
      }
      guard let range = AddressRange(subnet: subnet, first: ends[0], last: ends[1], gateway: ends[2]) else {
        throw wrong("\(name).subnet", item["subnet"], "a subnet with room for its gateway, rangeStart and rangeEnd")
      }
      ranges.append(range)
    }
    return ranges
  }

  private func destinations(_ family: AddressFamily) throws(CNIError) -> [IPPrefix] {
    let value = json["ipam"]?["routes"] ?? .null
    if value == .null { return [Route.everything(family)] }
    guard let items = value.array, items.count <= Self.maximumRoutes else {
      throw wrong("ipam.routes", value, "a list of at most \(Self.maximumRoutes) routes")
    }
    var prefixes: [IPPrefix] = []
    for (index, item) in items.enumerated() {
      guard let prefix = item["dst"]?.string.flatMap({ IPPrefix($0) }), prefix.family == family else {
        throw wrong("ipam.routes[\(index)].dst", item["dst"], "ADDRESS/LENGTH of the family of nodeIP")
      }
      if !prefixes.contains(prefix) { prefixes.append(prefix) }
    }
    return prefixes
  }

  private func wrong(_ name: String, _ value: JSONValue?, _ wanted: String) -> CNIError {
    let value = value ?? .null
    let found = value == .null ? "missing" : value.string.map(\.quoted) ?? value.int.map(String.init) ?? value.kind
    return CNIError(.invalidConfiguration, "network config: \(name) is \(found), must be \(wanted)")
  }
}

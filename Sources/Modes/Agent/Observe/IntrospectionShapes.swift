// SPDX-License-Identifier: Apache-2.0
//
// The JSON of introspection, as tools for amazon-vpc-cni-k8s read it: Go's encoding of its structures, so a mask is
// base64, an unset time is year 1, and an empty list is null.
//
// Source: contract of amazon-vpc-cni-k8s v1.23, introspection; /v1/pods: its troubleshooting guide.

internal import VPCModel

/// Values to JSON, one function for each path.
enum IntrospectionShapes {
  /// `{"CARD":{"TotalIPs","AssignedIPs","ENIs":{"ENI":{…}}}}`. Container and interface names are empty: with them, any
  /// reader could request the release of a pod's address.
  static func enis(_ pool: PoolHoldings) -> JSONValue {
    var addresses: [ENIID: [IPAddress: JSONValue]] = [:]
    for assignment in pool.assignments {
      guard let eni = assignment.eni else { continue }
      addresses[eni, default: [:]][assignment.address] = address(assignment)
    }
    let cooling = pool.cooldowns.map { ($0.address, coolingAddress($0, pool.cooldown)) }
    let cards = Dictionary(grouping: pool.enis.filter(\.isManaged)) { $0.eni.card }
    return .object(
      JSONObject(
        members: cards.sorted { $0.key < $1.key }.map { card, enis in
          let cidrs = enis.flatMap(\.cidrs)
          let objects = enis.sorted { $0.eni.id < $1.eni.id }.map { eni in
            let own = addresses[eni.eni.id, default: [:]].merging(
              cooling.filter { entry in eni.cidrs.contains { $0.prefix.contains(entry.0) } }
            ) { assigned, _ in assigned }
            return JSONObject.Member(key: eni.eni.id.text, value: .object(object(eni, own)))
          }
          let content: JSONObject = [
            "TotalIPs": .integer(cidrs.reduce(0) { $0 + $1.prefix.count }),
            "AssignedIPs": .integer(cidrs.reduce(0) { $0 + $1.assigned }),
            "ENIs": .object(JSONObject(members: objects)),
          ]
          return JSONObject.Member(key: "\(card)", value: .object(content))
        }))
  }

  /// `{"NAME_NAMESPACE_":{"IP","DeviceNumber"}}`: the container's name is empty, or a number if a pod has several
  /// addresses.
  static func pods(_ pool: PoolHoldings) -> JSONValue {
    var seen: [String: Int] = [:]
    let members = pool.assignments.sorted { $0.address < $1.address }.map { assignment in
      let name = "\(assignment.pod.name)_\(assignment.pod.namespace)_"
      let count = (seen[name] ?? 0) + 1
      seen[name] = count
      let content: JSONObject = [
        "DeviceNumber": .integer(assignment.device), "IP": .string("\(assignment.address)"),
      ]
      return JSONObject.Member(key: count == 1 ? name : "\(name)\(count)", value: .object(content))
    }
    return .object(JSONObject(members: members.sorted { $0.key < $1.key }))
  }

  /// The settings of SNAT, marks and links in use.
  static func networkSettings(_ settings: Settings) -> JSONValue {
    let ports =
      switch settings.snatPorts {
      case .none: 0
      case .hashrandom: 1
      case .prng: 2
      }
    return [
      "AWS_EXTERNAL_SERVICE_CIDRS": list(settings.externalServiceCIDRs),
      "AWS_VPC_CNI_NODE_PORT_SUPPORT": .bool(settings.supportsNodePorts),
      "AWS_VPC_ENI_MTU": .integer(settings.eniMTU),
      "AWS_VPC_K8S_CNI_CONNMARK": .integer(settings.connmark.value),
      "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": list(settings.excludedSNATCIDRs),
      "AWS_VPC_K8S_CNI_EXTERNALSNAT": .bool(settings.usesExternalSNAT),
      "AWS_VPC_K8S_CNI_RANDOMIZESNAT": .integer(ports),
      "AWS_VPC_K8S_CNI_VETHPREFIX": .string(settings.vethPrefix),
    ]
  }

  /// The pool's settings in use.
  static func poolSettings(_ settings: Settings) -> JSONValue {
    [
      "AWS_MANAGE_ENIS_NON_SCHEDULABLE": .bool(settings.managesUnschedulable),
      "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": .bool(settings.usesCustomNetworking),
      "ENABLE_SUBNET_DISCOVERY": .bool(settings.discoversSubnets),
      "WARM_ENI_TARGET": .integer(settings.warmENITarget),
      "WARM_IP_TARGET": .integer(settings.warmIPTarget),
    ]
  }

  // MARK: parts of /v1/enis

  private static func object(_ eni: ENISnapshot, _ addresses: [IPAddress: JSONValue]) -> JSONObject {
    let seen = eni.eni
    let table = seen.table
    return [
      "ID": .string(seen.id.text), "IsPrimary": .bool(seen.isPrimary), "IsTrunk": .bool(seen.isTrunk),
      "IsEFA": .bool(seen.isEFA), "DeviceNumber": .integer(seen.device),
      "AvailableIPv4Cidrs": cidrs(eni, .ipv4, addresses), "IPv6Cidrs": cidrs(eni, .ipv6, addresses),
      "IsExcludedForPodIPs": .bool(seen.isExcluded), "RouteTableID": .integer(table.number),
      "SubnetID": .string(seen.subnet.text),
    ]
  }

  private static func cidrs(
    _ eni: ENISnapshot, _ family: AddressFamily, _ addresses: [IPAddress: JSONValue]
  ) -> JSONValue {
    let members = eni.cidrs.map(\.prefix).filter { $0.family == family }.map { prefix in
      let inside = addresses.filter { prefix.contains($0.key) }.sorted { $0.key < $1.key }
      let content: JSONObject = [
        "Cidr": ["IP": .string("\(prefix.address)"), "Mask": .string(Base64.encode(mask(prefix)))],
        "IPAddresses": .object(
          JSONObject(members: inside.map { JSONObject.Member(key: "\($0.key)", value: $0.value) })),
        "IsPrefix": .bool(!prefix.isSingle), "AddressFamily": "",
      ]
      return JSONObject.Member(key: "\(prefix)", value: .object(content))
    }
    return .object(JSONObject(members: members.sorted { $0.key < $1.key }))
  }

  private static func address(_ assignment: Assignment) -> JSONValue {
    var metadata = JSONObject()
    if !assignment.pod.namespace.isEmpty { metadata["k8sPodNamespace"] = .string(assignment.pod.namespace) }
    if !assignment.pod.name.isEmpty { metadata["k8sPodName"] = .string(assignment.pod.name) }
    if assignment.interfacesCount != 0 { metadata["interfacesCount"] = .integer(assignment.interfacesCount) }
    let since = GoTime.text(unixNanoseconds: assignment.assignedUnixNanoseconds)
    return [
      "Address": .string("\(assignment.address)"), "IPAMKey": key(assignment.key.networkName),
      "IPAMMetadata": .object(metadata), "AssignedTime": .string(since), "UnassignedTime": .string(GoTime.never),
    ]
  }

  /// The assignment time is not kept.
  private static func coolingAddress(_ entry: CheckpointCooldown, _ cooldown: Duration) -> JSONValue {
    let since = entry.untilUnixNanoseconds &- cooldown.saturatedNanoseconds
    return [
      "Address": .string("\(entry.address)"), "IPAMKey": key(""), "IPAMMetadata": .object([:]),
      "AssignedTime": .string(GoTime.never), "UnassignedTime": .string(GoTime.text(unixNanoseconds: since)),
    ]
  }

  private static func key(_ network: String) -> JSONValue {
    ["networkName": .string(network), "containerID": "", "ifName": ""]
  }

  /// The network mask's bytes: 4 or 16.
  private static func mask(_ prefix: IPPrefix) -> [UInt8] {
    (0..<prefix.family.bitWidth / 8).map { index in
      let ones = min(max(prefix.length - index * 8, 0), 8)
      return ones == 0 ? 0 : ~UInt8(0) << UInt8(8 - ones)
    }
  }

  private static func list(_ cidrs: [IPPrefix]) -> JSONValue {
    cidrs.isEmpty ? .null : .array(cidrs.map { .string("\($0)") })
  }
}

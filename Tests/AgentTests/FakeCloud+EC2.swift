// SPDX-License-Identifier: Apache-2.0

import VPCTransport

@testable import AgentMode

/// EC2's actions and their answers, as far as the agent uses them.
extension FakeCloud {
  static func answer(_ action: String, _ inner: String) -> HTTPResponse {
    HTTPResponse(
      status: 200, body: Array("<\(action)Response><requestId>r</requestId>\(inner)</\(action)Response>".utf8))
  }

  static func error(_ code: String, _ status: Int = 400, _ message: String = "no") -> HTTPResponse {
    HTTPResponse(
      status: status,
      body: Array(
        "<Response><Errors><Error><Code>\(code)</Code><Message>\(message)</Message></Error></Errors></Response>".utf8))
  }

  static func list(_ name: String, _ fields: [String: String]) -> [String] {
    (1...1000).lazy.map { fields["\(name).\($0)"] }.prefix { $0 != nil }.compactMap(\.self)
  }

  static func act(_ action: String, _ fields: [String: String], _ state: inout State) -> HTTPResponse {
    let id = fields["NetworkInterfaceId"] ?? ""
    if fields["NetworkInterfaceId"] != nil, state.enis[id] == nil { return error("InvalidNetworkInterfaceID.NotFound") }
    switch action {
    case "DescribeNetworkInterfaces":
      let found = state.enis.values.filter { matches($0, fields) }.sorted { $0.id < $1.id }
      return answer(
        action, "<networkInterfaceSet>\(found.map { "<item>\(xml($0))</item>" }.joined())</networkInterfaceSet>")
    case "DescribeSubnets":
      let found = state.subnets.map { "<item>\(xml($0))</item>" }.joined()
      return answer(action, "<subnetSet>\(found)</subnetSet>")
    case "DescribeInstances": return describeInstance(state)
    case "CreateNetworkInterface": return create(fields, &state)
    case "AttachNetworkInterface":
      let device = fields["DeviceIndex"].flatMap { Int($0) }
      if state.enis.values.contains(where: { $0.device == device && $0.instance == fields["InstanceId"] }) {
        return error("InvalidParameterValue", 400, "already has an interface attached at device index")
      }
      state.enis[id]?.device = device
      state.enis[id]?.instance = fields["InstanceId"] ?? ""
      return answer(action, "<attachmentId>eni-attach-\(id)</attachmentId>")
    case "ModifyNetworkInterfaceAttribute":
      if fields["Attachment.DeleteOnTermination"] == "true" { state.enis[id]?.isMarked = true }
      let groups = list("SecurityGroupId", fields)
      if !groups.isEmpty { state.enis[id]?.groups = groups }
      return answer(action, "<return>true</return>")
    case "DetachNetworkInterface":
      let eni = String((fields["AttachmentId"] ?? "").dropFirst("eni-attach-".count))
      state.enis[eni]?.device = nil
      return answer(action, "<return>true</return>")
    case "DeleteNetworkInterface":
      if state.enis[id]?.device != nil { return error("InvalidNetworkInterface.InUse") }
      state.enis[id] = nil
      return answer(action, "<return>true</return>")
    case "AssignPrivateIpAddresses": return assign(id, fields, &state)
    case "UnassignPrivateIpAddresses":
      state.enis[id]?.singles.removeAll { list("PrivateIpAddress", fields).contains($0) }
      state.enis[id]?.prefixes.removeAll { list("Ipv4Prefix", fields).contains($0) }
      return answer(action, "<return>true</return>")
    case "CreateTags":
      let eni = fields["ResourceId.1"] ?? ""
      for (index, key) in list(
        "Tag",
        fields.filter { $0.key.hasSuffix(".Key") }.reduce(into: [:]) {
          $0[String($1.key.dropLast(4))] = $1.value
        }
      ).enumerated() {
        state.enis[eni]?.tags[key] = fields["Tag.\(index + 1).Value"] ?? ""
      }
      return answer(action, "<return>true</return>")
    default: return error("InvalidAction")
    }
  }

  static func create(_ fields: [String: String], _ state: inout State) -> HTTPResponse {
    guard let subnet = state.subnets.firstIndex(where: { $0.id == fields["SubnetId"] }) else {
      return error("InvalidSubnetID.NotFound")
    }
    state.next += 1
    let base = state.subnets[subnet].cidr.split(separator: ".").prefix(2).joined(separator: ".")
    let number = state.next
    var eni = ENI(
      id: "eni-\(number)", mac: "02:00:00:00:01:\(String(number % 256, radix: 16))", subnet: state.subnets[subnet].id,
      own: "\(base).1.\(number % 200)")
    eni.mac = "02:00:00:00:01:\(hex(number))"
    eni.description = fields["Description"] ?? ""
    eni.groups = list("SecurityGroupId", fields)
    var index = 1
    while let key = fields["TagSpecification.1.Tag.\(index).Key"] {
      eni.tags[key] = fields["TagSpecification.1.Tag.\(index).Value"]
      index += 1
    }
    state.enis[eni.id] = eni
    give(eni.id, fields, &state)
    return answer("CreateNetworkInterface", "<networkInterface>\(xml(state.enis[eni.id] ?? eni))</networkInterface>")
  }

  static func hex(_ number: Int) -> String {
    let text = String(number % 256, radix: 16)
    return text.count < 2 ? "0" + text : text
  }

  @discardableResult
  static func give(_ id: String, _ fields: [String: String], _ state: inout State) -> ([String], [String]) {
    let base = state.enis[id]?.own.split(separator: ".").prefix(2).joined(separator: ".") ?? "10.0"
    let singles = (0..<(fields["SecondaryPrivateIpAddressCount"].flatMap { Int($0) } ?? 0)).map { _ in
      state.next += 1
      return "\(base).\(2 + state.next / 200).\(state.next % 200 + 1)"
    }
    let prefixes = (0..<(fields["Ipv4PrefixCount"].flatMap { Int($0) } ?? 0)).map { _ in
      state.next += 1
      return "\(base).\(8 + state.next / 16 % 8).\(state.next % 16 * 16)/28"
    }
    state.enis[id]?.singles += singles
    state.enis[id]?.prefixes += prefixes
    return (singles, prefixes)
  }

  static func assign(_ id: String, _ fields: [String: String], _ state: inout State) -> HTTPResponse {
    let (singles, prefixes) = give(id, fields, &state)
    return answer(
      "AssignPrivateIpAddresses",
      "<networkInterfaceId>\(id)</networkInterfaceId><assignedPrivateIpAddressesSet>"
        + singles.map { "<item><privateIpAddress>\($0)</privateIpAddress></item>" }.joined()
        + "</assignedPrivateIpAddressesSet><assignedIpv4PrefixSet>"
        + prefixes.map { "<item><ipv4Prefix>\($0)</ipv4Prefix></item>" }.joined() + "</assignedIpv4PrefixSet>")
  }

  static func describeInstance(_ state: State) -> HTTPResponse {
    let attached = state.enis.values.filter { $0.device != nil && $0.instance == "i-1" }
    let items = attached.map {
      "<item><networkInterfaceId>\($0.id)</networkInterfaceId><attachment><attachmentId>eni-attach-\($0.id)</attachmentId>"
        + "<deviceIndex>\($0.device ?? 0)</deviceIndex></attachment></item>"
    }
    return answer(
      "DescribeInstances",
      "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId><instanceType>m5.large</instanceType>"
        + "<networkInterfaceSet>\(items.joined())</networkInterfaceSet></item></instancesSet></item></reservationSet>")
  }

  static func matches(_ eni: ENI, _ fields: [String: String]) -> Bool {
    let ids = list("NetworkInterfaceId", fields)
    if !ids.isEmpty { return ids.contains(eni.id) }
    return list(
      "Filter", fields.reduce(into: [:]) { if $1.key.hasSuffix(".Name") { $0[String($1.key.dropLast(5))] = $1.value } }
    )
    .enumerated().allSatisfy { index, name in
      let values = list("Filter.\(index + 1).Value", fields)
      switch name {
      case "attachment.instance-id": return eni.device != nil && values.contains(eni.instance)
      case "status": return values.contains(eni.device == nil ? "available" : "in-use")
      case "vpc-id": return values.contains("vpc-1")
      case "tag-key": return values.contains { eni.tags[$0] != nil }
      case let tag where tag.hasPrefix("tag:"): return values.contains(eni.tags[String(tag.dropFirst(4))] ?? "")
      default: return false
      }
    }
  }

  static func xml(_ eni: ENI) -> String {
    var text =
      "<networkInterfaceId>\(eni.id)</networkInterfaceId><subnetId>\(eni.subnet)</subnetId><vpcId>\(eni.vpc)</vpcId>"
    text += "<description>\(eni.description)</description><macAddress>\(eni.mac)</macAddress>"
    text += "<status>\(eni.device == nil ? "available" : "in-use")</status>\(eni.tracking)"
    text += "<groupSet>\(eni.groups.map { "<item><groupId>\($0)</groupId></item>" }.joined())</groupSet>"
    if let device = eni.device {
      text += "<attachment><attachmentId>eni-attach-\(eni.id)</attachmentId><instanceId>\(eni.instance)</instanceId>"
      text += "<deviceIndex>\(device)</deviceIndex><networkCardIndex>\(eni.card)</networkCardIndex>"
      text += "<status>attached</status><deleteOnTermination>\(eni.isMarked)</deleteOnTermination></attachment>"
    }
    text += "<tagSet>\(tags(eni.tags))</tagSet><privateIpAddress>\(eni.own)</privateIpAddress><privateIpAddressesSet>"
    text += "<item><privateIpAddress>\(eni.own)</privateIpAddress><primary>true</primary></item>"
    text += eni.singles.map { "<item><privateIpAddress>\($0)</privateIpAddress></item>" }.joined()
    text += "</privateIpAddressesSet><ipv4PrefixSet>"
    return text + eni.prefixes.map { "<item><ipv4Prefix>\($0)</ipv4Prefix></item>" }.joined() + "</ipv4PrefixSet>"
  }

  static func xml(_ subnet: Subnet) -> String {
    "<subnetId>\(subnet.id)</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1a</availabilityZone>"
      + "<cidrBlock>\(subnet.cidr)</cidrBlock><availableIpAddressCount>\(subnet.free)</availableIpAddressCount>"
      + "<tagSet>\(tags(subnet.tags))</tagSet>"
  }

  static func tags(_ tags: [String: String]) -> String {
    tags.sorted { $0.key < $1.key }.map { "<item><key>\($0.key)</key><value>\($0.value)</value></item>" }.joined()
  }
}

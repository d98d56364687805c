// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@testable import AgentMode

/// EC2 and IMDS in memory, spoken to in their own wire formats by the real clients: ENIs, subnets, tags, limits that are
/// kept, faults and lies that a test puts in the way.
final class FakeCloud: HTTPTransport {
  struct ENI: Sendable {
    var id: String
    var mac: String
    var subnet = "subnet-1"
    var own: String
    var singles: [String] = []
    var prefixes: [String] = []
    var tags: [String: String] = [:]
    var description = ""
    var groups = ["sg-1"]
    var device: Int?
    var card = 0
    /// Of what it is attached to.
    var instance = "i-1"
    var isMarked = false
    var tracking = ""
    /// IMDS does not show it (yet).
    var isHiddenFromIMDS = false
  }

  struct Subnet: Sendable {
    var id: String
    var cidr: String
    var free = 100
    var tags: [String: String] = [:]
  }

  struct Call: Sendable, Hashable {
    let action: String
    let fields: [String: String]
  }

  struct State: Sendable {
    var enis: [String: ENI] = [:]
    var subnets: [Subnet] = []
    var vpcCIDRs = ["10.0.0.0/16"]
    var calls: [Call] = []
    var imdsReads: [String] = []
    /// By action: error codes for the calls to come.
    var faults: [String: [(code: String, status: Int)]] = [:]
    /// By action: refused always.
    var denied: Set<String> = []
    /// By action: this is answered instead, after the act.
    var lies: [String: String] = [:]
    /// By action: the answer is lost once, after the act.
    var lost: Set<String> = []
    var isIMDSDown = false
    var next = 100
  }

  private let state: Mutex<State>

  init() {
    var state = State()
    state.subnets = [Subnet(id: "subnet-1", cidr: "10.0.0.0/20")]
    state.enis["eni-1"] = ENI(
      id: "eni-1", mac: "02:00:00:00:00:01", own: "10.0.0.10", tags: [ENITags.instanceKey: "i-1"], device: 0,
      isMarked: true)
    self.state = Mutex(state)
  }

  // MARK: what a test does and sees

  func change(_ change: (inout sending State) -> Void) { state.withLock { change(&$0) } }
  /// EC2 calls in order, without their fields.
  var actions: [String] { state.withLock { $0.calls.map(\.action) } }
  func calls(_ action: String) -> [Call] { state.withLock { $0.calls.filter { $0.action == action } } }
  var imdsReads: [String] { state.withLock { $0.imdsReads } }
  var enis: [String: ENI] { state.withLock { $0.enis } }
  func eni(_ id: String) -> ENI? { state.withLock { $0.enis[id] } }
  func forgetCalls() {
    state.withLock {
      $0.calls = []
      $0.imdsReads = []
    }
  }

  func fail(_ action: String, _ code: String, times: Int = 1, status: Int = 400) {
    state.withLock { $0.faults[action, default: []] += Array(repeating: (code, status), count: times) }
  }

  // MARK: transport

  func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse {
    if request.url.hasPrefix("http://169.254.169.254/latest/") {
      return state.withLock { FakeCloud.imds(String(request.url.dropFirst(30)), request.method, &$0) }
    }
    let fields = FakeCloud.fields(request.body)
    let action = fields["Action"] ?? ""
    let response: HTTPResponse? = state.withLock { state in
      state.calls.append(Call(action: action, fields: fields))
      if state.denied.contains(action) { return FakeCloud.error("UnauthorizedOperation", 403) }
      if var faults = state.faults[action], !faults.isEmpty {
        let fault = faults.removeFirst()
        state.faults[action] = faults
        return FakeCloud.error(fault.code, fault.status)
      }
      let answer = FakeCloud.act(action, fields, &state)
      if let lie = state.lies[action] { return FakeCloud.answer(action, lie) }
      return state.lost.remove(action) == nil ? answer : nil
    }
    if let response { return response }
    throw HTTPError(.interrupted, url: request.url, detail: "lost", isTransient: true, isUnsent: false)
  }

  private static func fields(_ body: [UInt8]) -> [String: String] {
    var fields: [String: String] = [:]
    for pair in String(decoding: body, as: UTF8.self).split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      fields[decode(parts[0])] = decode(parts[1])
    }
    return fields
  }

  private static func decode(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%"), rest.count >= 2 {
        bytes.append(UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) ?? 0)
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  // MARK: EC2

  private static func answer(_ action: String, _ inner: String) -> HTTPResponse {
    HTTPResponse(
      status: 200, body: Array("<\(action)Response><requestId>r</requestId>\(inner)</\(action)Response>".utf8))
  }

  private static func error(_ code: String, _ status: Int = 400, _ message: String = "no") -> HTTPResponse {
    HTTPResponse(
      status: status,
      body: Array(
        "<Response><Errors><Error><Code>\(code)</Code><Message>\(message)</Message></Error></Errors></Response>".utf8))
  }

  private static func list(_ name: String, _ fields: [String: String]) -> [String] {
    (1...1000).lazy.map { fields["\(name).\($0)"] }.prefix { $0 != nil }.compactMap(\.self)
  }

  private static func act(_ action: String, _ fields: [String: String], _ state: inout State) -> HTTPResponse {
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

  private static func create(_ fields: [String: String], _ state: inout State) -> HTTPResponse {
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

  private static func hex(_ number: Int) -> String {
    let text = String(number % 256, radix: 16)
    return text.count < 2 ? "0" + text : text
  }

  @discardableResult
  private static func give(_ id: String, _ fields: [String: String], _ state: inout State) -> ([String], [String]) {
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

  private static func assign(_ id: String, _ fields: [String: String], _ state: inout State) -> HTTPResponse {
    let (singles, prefixes) = give(id, fields, &state)
    return answer(
      "AssignPrivateIpAddresses",
      "<networkInterfaceId>\(id)</networkInterfaceId><assignedPrivateIpAddressesSet>"
        + singles.map { "<item><privateIpAddress>\($0)</privateIpAddress></item>" }.joined()
        + "</assignedPrivateIpAddressesSet><assignedIpv4PrefixSet>"
        + prefixes.map { "<item><ipv4Prefix>\($0)</ipv4Prefix></item>" }.joined() + "</assignedIpv4PrefixSet>")
  }

  private static func describeInstance(_ state: State) -> HTTPResponse {
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

  private static func matches(_ eni: ENI, _ fields: [String: String]) -> Bool {
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
      "<networkInterfaceId>\(eni.id)</networkInterfaceId><subnetId>\(eni.subnet)</subnetId><vpcId>vpc-1</vpcId>"
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

  private static func xml(_ subnet: Subnet) -> String {
    "<subnetId>\(subnet.id)</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1a</availabilityZone>"
      + "<cidrBlock>\(subnet.cidr)</cidrBlock><availableIpAddressCount>\(subnet.free)</availableIpAddressCount>"
      + "<tagSet>\(tags(subnet.tags))</tagSet>"
  }

  private static func tags(_ tags: [String: String]) -> String {
    tags.sorted { $0.key < $1.key }.map { "<item><key>\($0.key)</key><value>\($0.value)</value></item>" }.joined()
  }

  // MARK: IMDS

  private static func imds(_ path: String, _ method: HTTPMethod, _ state: inout State) -> HTTPResponse {
    if state.isIMDSDown { return HTTPResponse(status: 503) }
    if method == .put { return text("token", headers: ["X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "21600"]) }
    state.imdsReads.append(path)
    let attached = state.enis.values.filter { $0.device != nil && $0.instance == "i-1" && !$0.isHiddenFromIMDS }
      .sorted { $0.id < $1.id }
    switch path {
    case "dynamic/instance-identity/document":
      return text(
        #"{"region":"us-east-1","availabilityZone":"us-east-1a","instanceId":"i-1","instanceType":"m5.large"}"#)
    case "meta-data/mac": return text("02:00:00:00:00:01")
    case "meta-data/network/interfaces/macs/": return text(attached.map { "\($0.mac)/" }.joined(separator: "\n"))
    default: break
    }
    let words = path.split(separator: "/")
    guard words.count == 6, let eni = attached.first(where: { $0.mac == words[4] }) else {
      return HTTPResponse(status: 404)
    }
    let cidr = state.subnets.first { $0.id == eni.subnet }?.cidr
    let lines: [String] =
      switch words[5] {
      case "interface-id": [eni.id]
      case "device-number": ["\(eni.device ?? 0)"]
      case "network-card": eni.card > 0 ? ["\(eni.card)"] : []
      case "subnet-id": [eni.subnet]
      case "vpc-id": ["vpc-1"]
      case "security-group-ids": eni.groups
      case "local-ipv4s": [eni.own] + eni.singles
      case "ipv4-prefix": eni.prefixes
      case "subnet-ipv4-cidr-block": [cidr].compactMap(\.self)
      case "vpc-ipv4-cidr-blocks": state.vpcCIDRs
      default: []
      }
    return lines.isEmpty ? HTTPResponse(status: 404) : text(lines.joined(separator: "\n"))
  }

  private static func text(_ text: String, headers: HTTPHeaders = [:]) -> HTTPResponse {
    HTTPResponse(status: 200, headers: headers, body: Array(text.utf8))
  }
}

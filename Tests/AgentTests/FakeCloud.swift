// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VPCCloud
import VPCModel
import VPCTransport

@testable import AgentMode

/// EC2 and IMDS in memory. The real clients talk to them in their own wire formats. They have ENIs, subnets, tags,
/// limits that they enforce, and faults and false answers that a test sets.
final class FakeCloud: HTTPTransport {
  struct ENI: Sendable {
    var id: String
    var mac: String
    var subnet = "subnet-1"
    var vpc = "vpc-1"
    var own: String
    var singles: [String] = []
    var prefixes: [String] = []
    var tags: [String: String] = [:]
    var description = ""
    var groups = ["sg-1"]
    var device: Int?
    var card = 0
    /// The instance that it is attached to.
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
    /// By action: error codes for the next calls.
    var faults: [String: [(code: String, status: Int)]] = [:]
    /// By action: always refused.
    var denied: Set<String> = []
    /// By action: answered in place of the real answer, after the action is done.
    var lies: [String: String] = [:]
    /// By action: the answer is lost once, after the action is done.
    var lost: Set<String> = []
    var isIMDSDown = false
    /// The time by EC2's clock, for the Date header of its answers; nil: no Date header.
    var date: UTCTime?
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
    if var response {
      if let date = state.withLock({ $0.date }) { response.headers["Date"] = FakeCloud.httpDate(date) }
      return response
    }
    throw HTTPError(.interrupted, url: request.url, detail: "lost", isTransient: true, isUnsent: false)
  }

  private static func httpDate(_ time: UTCTime) -> String {
    let parts = time.description.dropLast().split { $0 == "-" || $0 == "T" }.map(String.init)
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return "Mon, \(parts[2]) \(months[(Int(parts[1]) ?? 1) - 1]) \(parts[0]) \(parts[3]) GMT"
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
      case "vpc-id": [eni.vpc]
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

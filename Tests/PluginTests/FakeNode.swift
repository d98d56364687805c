// SPDX-License-Identifier: Apache-2.0

import Logging
import TestSupport
import VPCLinux
import VPCModel
import VPCRPC

@testable import PluginMode

/// The plugin's outside world as a small working model: an agent with a pool, a kernel that remembers the wiring, and a
/// record of all requests to both, in order.
final class FakeNode: AgentPort, PolicyPort, KernelPort {
  /// How the agent behaves.
  enum AgentMood {
    case ours, reference, empty(String), down, refusing(RPCStatus), unsuccessful
  }

  var mood = AgentMood.ours
  var policyMode = ""
  var policyFails: RPCError.Stage?
  var addresses = [("10.0.3.7", Int32(1), Int32(2))]
  var vlan: Int32 = 0
  var taken: [String] = []
  /// What a killed ADD left in the pod's namespace.
  var unfinished = ""
  var addFails: PodNetworkError?
  var prepareFails: PodNetworkError?
  var checkFails: PodNetworkError?
  var removeFails: NetlinkError?
  var checkpoints: [String] = []

  private(set) var events: [String] = []
  /// The number of veth pairs that were made and not removed.
  private(set) var standing = 0
  fileprivate let mac = MACAddress(bits: 0x02_0000_0000_01)
  private(set) var added: [PodNetwork] = []
  private(set) var addRequests: [AddNetworkRequest] = []
  private(set) var deleteRequests: [DelNetworkRequest] = []

  func add(
    _ request: AddNetworkRequest, timeout: Duration, meanwhile: () -> Void
  ) throws(RPCError) -> AddNetworkReply {
    events.append("agent add")
    addRequests.append(request)
    if case .down = mood {} else { meanwhile() }
    try answer()
    var reply = AddNetworkReply()
    if case .empty(let cause) = mood {
      reply.failureCause = cause
      return reply
    }
    reply.success = true
    reply.ipallocationMetadata = metadata
    reply.networkPolicyMode = policyMode
    reply.podVlanID = vlan
    if case .ours = mood { reply.podRouteTable = 20512 }
    return reply
  }

  func delete(_ request: DelNetworkRequest, timeout: Duration) throws(RPCError) -> DelNetworkReply {
    events.append("agent delete \(request.reason)")
    deleteRequests.append(request)
    try answer()
    var reply = DelNetworkReply()
    if case .unsuccessful = mood { return reply }
    reply.success = true
    reply.ipallocationMetadata = metadata
    reply.networkPolicyMode = policyMode
    reply.podVlanID = vlan
    if case .ours = mood { reply.hostVethRemoved = true }
    return reply
  }

  func unreadiness(timeout: Duration) -> String? {
    if case .ours = mood { return nil }
    return "nobody listens"
  }

  private var metadata: [IPAllocationMetadata] {
    addresses.map {
      var entry = IPAllocationMetadata()
      entry.ipv4Addr = $0.0
      entry.deviceNumber = $0.1
      entry.routeTableID = $0.2
      return entry
    }
  }

  private func answer() throws(RPCError) {
    switch mood {
    case .down:
      throw RPCError(.connect, RPCStatus(.unavailable, "cannot connect"), method: "CNIBackend", target: "/socket")
    case .refusing(let status): throw RPCError(.answer, status, method: "CNIBackend", target: "/socket")
    default: break
    }
  }

  func enforce(_ request: EnforceNpRequest, timeout: Duration) throws(RPCError) -> EnforceNpReply {
    events.append("policy enforce \(request.networkPolicyMode) \(request.interfaceCount)")
    if let policyFails { throw RPCError(policyFails, RPCStatus(.unavailable, "no policy agent")) }
    var reply = EnforceNpReply()
    reply.success = true
    return reply
  }

  func delete(_ request: DeleteNpRequest, timeout: Duration) throws(RPCError) -> DeleteNpReply {
    events.append("policy delete")
    if let policyFails { throw RPCError(policyFails, RPCStatus(.unavailable, "no policy agent")) }
    return DeleteNpReply()
  }

  func open(namespace path: String, allowsOwn: Bool) throws(CNIError) -> any PodPort {
    guard path.hasPrefix("/var/run/netns/") else {
      throw CNIError(.invalidEnvironment, "CNI_NETNS \(path.quoted) is not a network namespace")
    }
    return Pod(node: self)
  }

  func remove(_ remains: HostRemains) throws {
    let table = remains.eniTable.map { " table \($0)" } ?? ""
    events.append("remove \(remains.address)\(table)\(remains.deletesVeth ? " veth" : "")")
    if let removeFails { throw removeFails }
  }

  func removeBranch(vlan: Int, remains: HostRemains) throws { events.append("remove vlan \(vlan) \(remains.address)") }

  private struct Pod: PodPort {
    let node: FakeNode
    func has(_ interface: InterfaceName) throws -> Bool { node.taken.contains(interface.text) }
    func prepare(hostName: InterfaceName, podName: InterfaceName, mtu: UInt32) throws(PodNetworkError) -> PodVeth {
      node.events.append("veth \(podName) \(mtu)")
      if let error = node.prepareFails { throw error }
      node.standing += 1
      return PodVeth(hostName: hostName, podName: podName, hostIndex: 7, podIndex: 8, mac: node.mac)
    }
    func discard(_ veth: PodVeth) {
      node.events.append("veth gone")
      node.standing -= 1
    }
    func add(_ network: PodNetwork, prepared: PodVeth?) throws {
      node.events.append("wire \(network.interfaces.map(\.address.description).joined(separator: ","))")
      if let error = node.addFails {
        // All or nothing: a failure removes the prepared pair too.
        if prepared != nil { node.standing -= 1 }
        throw error
      }
      node.added.append(network)
    }
    func removeUnfinished(_ interface: InterfaceName, hostSuffix: String) throws -> Bool {
      guard node.unfinished == interface.text else { return false }
      node.events.append("unfinished \(interface) \(hostSuffix) gone")
      return true
    }
    func check(_ interfaces: [PodInterface]) throws {
      node.events.append("check \(interfaces.map { "\($0.hostName) \($0.podName) \($0.address) \($0.eniTable)" })")
      if let error = node.checkFails { throw error }
    }
  }
}

/// One call of the plugin.
struct Call {
  static let environment = [
    "CNI_CONTAINERID": "abc123", "CNI_NETNS": "/var/run/netns/pod", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;"
      + "K8S_POD_INFRA_CONTAINER_ID=abc123;K8S_POD_UID=u-1",
  ]

  var command: String
  var environment = Call.environment
  var input = Call.configuration()
  var node = FakeNode()

  /// The plugin's part of the conflist, followed by members of the test's own.
  static func configuration(_ version: String = "0.4.0", _ more: String = "") -> String {
    #"{"cniVersion":"\#(version)","name":"aws-cni","type":"aws-cni","vethPrefix":"eni","mtu":"9001","#
      + #""podSGEnforcingMode":"strict","pluginLogFile":"stderr","pluginLogLevel":"DEBUG"\#(more)}"#
  }

  func run() -> PluginProcess.Answer { run(bytes: Array(input.utf8)) }

  func run(bytes: [UInt8]) -> PluginProcess.Answer {
    var environment = self.environment
    environment["CNI_COMMAND"] = command
    return PluginProcess(
      environment: environment, input: { () throws(CNIError) in bytes }, agent: node, policy: node, kernel: node,
      checkpoints: { node.checkpoints.map { Array($0.utf8) } },
      log: { _ in Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }, now: { ContinuousClock.now }
    ).run()
  }
}

extension PluginProcess.Answer {
  var text: String { String(decoding: output, as: UTF8.self) }

  /// The error's code, nil for a success.
  var code: Int? { status == 0 ? nil : json?["code"]?.int }

  var message: String { json?["msg"]?.string ?? "" }

  var json: JSONValue? { try? JSONParser.parse(output) }
}

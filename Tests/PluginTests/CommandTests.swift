// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux
import VPCModel
import VPCRPC

@testable import PluginMode

/// What each command asks of the agent and the kernel, and how each failure ends.
@Suite struct CommandTests {
  static let previous = #","prevResult":"# + (ResultTests.results[4].1) + ""

  static func branch(vlan: String) -> String {
    #","prevResult":"#
      + ResultTests.results[4].1.replacing(#""mac":"0","sandbox":"1""#, with: #""mac":"\#(vlan)""#)
  }

  // MARK: ADD

  @Test func addAsksAndWires() throws {
    let call = Call(command: "ADD")
    #expect(call.run().status == 0)
    #expect(call.node.events == ["agent add", "veth eth0 9001", "wire 10.0.3.7"])
    let request = try #require(call.node.addRequests.first)
    #expect(request.clientVersion.isEmpty, "the reference's agent refuses any other")
    #expect(request.k8SPodName == "web-0" && request.k8SPodNamespace == "default")
    #expect(request.networkName == "aws-cni" && request.containerID == "abc123" && request.ifName == "eth0")
    #expect(request.netns == "/var/run/netns/pod" && request.k8SPodInfraContainerID == "abc123")
    let network = try #require(call.node.added.first)
    #expect(network.routing == .table(.pods) && network.mtu == 9001)
    #expect(network.interfaces.first?.eniTable == RouteTable(2))
  }

  @Test func addWithTheReferencesAgentUsesRules() {
    let call = Call(command: "ADD")
    call.node.mood = .reference
    #expect(call.run().status == 0)
    #expect(call.node.added.first?.routing == .perPodRules)
  }

  @Test(arguments: [
    (FakeNode.AgentMood.down, "add cmd: Error received from AddNetwork gRPC call: "),
    (.empty(""), "add cmd: failed to assign an IP address to container"),
    (.empty("subnet full"), "add cmd: failed to assign an IP address to container: subnet full"),
    (
      .refusing(RPCStatus(.failedPrecondition, #"wrong client version "x" (!= "y")"#)),
      #"gRPC call: call CNIBackend at /socket: rpc error: code = FailedPrecondition desc = wrong client version "x""#
    ),
  ])
  func addWithoutAnAddress(mood: FakeNode.AgentMood, text: String) {
    let call = Call(command: "ADD")
    call.node.mood = mood
    let answer = call.run()
    #expect(answer.code == 999 && answer.message.contains(text), "\(answer.message)")
    // The pair is made while the agent is asked, and removed again.
    #expect(call.node.events.first == "agent add" && call.node.standing == 0)
    #expect(Set(call.node.events.dropFirst()).isSubset(of: ["veth eth0 9001", "veth gone"]))
  }

  @Test func addThatCannotWireGivesBack() {
    let call = Call(command: "ADD")
    call.node.addFails = PodNetworkError(
      .kernel, "make veth pair", cause: NetlinkError(errno: 1, request: "create veth"))
    let answer = call.run()
    #expect(answer.code == 999)
    #expect(
      answer.message
        == "add command: failed to setup network: make veth pair: create veth: operation not permitted (errno 1)")
    #expect(call.node.events == ["agent add", "veth eth0 9001", "wire 10.0.3.7", "agent delete SetupNSFailed"])
    #expect(call.node.standing == 0)
    #expect(call.node.deleteRequests.first?.k8SPodUid == "u-1")
  }

  /// The agent may have assigned an address by the time the pair turns out to be impossible: the plugin gives it back.
  @Test func addWithoutAVethGivesBack() {
    let call = Call(command: "ADD")
    call.node.prepareFails = PodNetworkError(.notOurs, "eni0 exists on the host and is a bridge")
    let answer = call.run()
    #expect(answer.message == "add command: failed to setup network: eni0 exists on the host and is a bridge")
    #expect(call.node.events == ["agent add", "veth eth0 9001", "agent delete SetupNSFailed"])
  }

  /// Two concurrent ADDs of one container get the same address from the agent: the later one must not release it.
  @Test func addThatComesTooLateKeepsTheAddress() {
    let call = Call(command: "ADD")
    call.node.prepareFails = PodNetworkError(.interfaceExists, "interface eth0 exists already in the pod's namespace")
    let answer = call.run()
    #expect(
      answer.code == 999 && answer.message.hasPrefix("add command: failed to setup network: interface eth0 exists"))
    #expect(call.node.events == ["agent add", "veth eth0 9001"])
  }

  @Test func existingInterfaceIsBadInput() {
    let call = Call(command: "ADD")
    call.node.taken = ["eth0"]
    let answer = call.run()
    #expect(answer.code == 4)
    #expect(answer.message == "CNI_IFNAME: eth0 exists already in CNI_NETNS /var/run/netns/pod")
    // A running pod keeps its address.
    #expect(call.node.events.isEmpty)
  }

  struct OddReply: Sendable {
    var address = "10.0.3.7"
    var table: Int32 = 2
    var vlan: Int32 = 0
    var count = 1
    let text: String
  }

  @Test(arguments: [
    OddReply(address: "", text: #"the agent answered with "" for an address"#),
    OddReply(address: "10.0.3", text: #"the agent answered with "10.0.3" for an address"#),
    OddReply(address: "127.0.0.1", text: #""127.0.0.1" for an address"#),
    OddReply(table: 0, text: "routing table 0"), OddReply(table: -7, text: "routing table -7"),
    OddReply(vlan: 7, text: "security groups for pods (VLAN 7) are not supported"),
    OddReply(count: 0, text: "answered with 0 addresses"), OddReply(count: 33, text: "answered with 33 addresses"),
  ])
  func oddReplies(_ odd: OddReply) {
    let call = Call(command: "ADD")
    call.node.addresses = Array(repeating: (odd.address, 1, odd.table), count: odd.count)
    call.node.vlan = odd.vlan
    let answer = call.run()
    #expect(answer.code == 999 && answer.message.contains(odd.text), "\(answer.message)")
    #expect(answer.message.hasPrefix("add command: failed to setup network: "))
    #expect(call.node.events == ["agent add", "veth eth0 9001", "veth gone", "agent delete SetupNSFailed"])
    #expect(call.node.standing == 0)
  }

  @Test func addTellsThePolicyAgent() {
    let call = Call(command: "ADD")
    call.node.policyMode = "strict"
    #expect(call.run().status == 0)
    #expect(call.node.events.last == "policy enforce strict 1")
    call.node.policyFails = .connect
    let answer = call.run()
    #expect(answer.code == 999 && answer.message.hasPrefix("add cmd: failed to setup network policy"))
    #expect(call.node.events.last == "policy enforce strict 1", "nothing is undone, the kubelet sends DEL")
  }

  // MARK: DEL

  struct Deletion: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var mood = FakeNode.AgentMood.ours
    var more = ""
    var netns: String? = "/var/run/netns/pod"
    var policyMode = ""
    var policyFails: RPCError.Stage?
    var vlan: Int32 = 0
    var failure: String?
    var events: [String]
  }

  static let unknown = RPCStatus(.unknown, "datastore: unknown pod")

  @Test(arguments: [
    Deletion(testDescription: "our agent removes all", events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "the reference's leaves rules", mood: .reference,
      events: ["agent delete PodDeleted", "remove 10.0.3.7 table 2"]),
    Deletion(testDescription: "no namespace", netns: nil, events: ["agent delete PodDeleted"]),
    Deletion(testDescription: "no agent, no prevResult", mood: .down, events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "no agent", mood: .down, more: previous,
      events: ["agent delete PodDeleted", "remove 10.0.3.7 table 2 veth"]),
    Deletion(
      testDescription: "an agent that fails", mood: .refusing(RPCStatus(.internal, "x")), more: previous,
      events: ["agent delete PodDeleted", "remove 10.0.3.7 table 2 veth"]),
    Deletion(
      testDescription: "unknown pod", mood: .refusing(unknown), more: previous, events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "unknown pod without prevResult", mood: .refusing(unknown), events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "damaged prevResult", mood: .down, more: #","prevResult":7"#, events: ["agent delete PodDeleted"]
    ),
    Deletion(
      testDescription: "stdout for a log", more: #","pluginLogFile":"stdout""#, events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "no success", mood: .unsuccessful, failure: "del cmd: failed to process delete request",
      events: ["agent delete PodDeleted"]),
    Deletion(testDescription: "branch ENI", more: branch(vlan: "7"), events: ["remove vlan 7 10.0.3.7"]),
    Deletion(testDescription: "branch ENI without namespace", more: branch(vlan: "7"), netns: nil, events: []),
    Deletion(
      testDescription: "no VLAN id", more: branch(vlan: "x"), events: ["agent delete PodDeleted"]),
    Deletion(
      testDescription: "branch ENI from the agent", mood: .reference, vlan: 9,
      events: ["agent delete PodDeleted", "remove vlan 9 10.0.3.7"]),
    Deletion(
      testDescription: "policy", policyMode: "strict", events: ["agent delete PodDeleted", "policy delete"]),
    Deletion(
      testDescription: "policy agent absent", policyMode: "strict", policyFails: .connect,
      failure: "del cmd: failed to connect to network policy agent",
      events: ["agent delete PodDeleted", "policy delete"]),
    Deletion(
      testDescription: "policy agent fails", policyMode: "strict", policyFails: .answer,
      events: ["agent delete PodDeleted", "policy delete"]),
  ])
  func deletes(_ deletion: Deletion) {
    var call = Call(command: "DEL", input: Call.configuration("0.4.0", deletion.more))
    call.environment["CNI_NETNS"] = deletion.netns
    call.node.mood = deletion.mood
    call.node.policyMode = deletion.policyMode
    call.node.policyFails = deletion.policyFails
    call.node.vlan = deletion.vlan
    let answer = call.run()
    #expect(call.node.events == deletion.events)
    if let failure = deletion.failure {
      #expect(answer.code == 999 && answer.message.hasPrefix(failure), "\(answer.text)")
    } else {
      #expect(answer.status == 0 && answer.output.isEmpty)
    }
  }

  @Test(arguments: [("", true), (previous, false)])
  func deleteRemovesWhatAKilledAddLeft(more: String, isRemoved: Bool) {
    let call = Call(command: "DEL", input: Call.configuration("0.4.0", more))
    call.node.unfinished = "eth0"
    #expect(call.run().status == 0)
    let removal = isRemoved ? ["unfinished eth0 \(ResultTests.hash) gone"] : []
    #expect(call.node.events == removal + ["agent delete PodDeleted"])
  }

  @Test func deleteGoesOnWhereTheKernelFails() {
    let call = Call(command: "DEL", input: Call.configuration("0.4.0", CommandTests.previous))
    call.node.mood = .down
    call.node.removeFails = NetlinkError(errno: 1, request: "delete rule")
    #expect(call.run().status == 0)
    call.node.mood = .reference
    let answer = call.run()
    #expect(answer.code == 999)
    #expect(answer.message.hasPrefix("del cmd: failed on tear down pod network: delete rule: operation not permitted"))
  }

  // MARK: CHECK, STATUS, GC

  @Test func checkLooks() {
    let call = Call(command: "CHECK", input: Call.configuration("0.4.0", CommandTests.previous))
    #expect(call.run() == PluginProcess.Answer(output: [], status: 0))
    #expect(call.node.events == [#"check ["eni\#(ResultTests.hash) eth0 10.0.3.7 2"]"#])
    call.node.checkFails = PodNetworkError(.differs, "host route to 10.0.3.7 is missing")
    let answer = call.run()
    #expect(answer.code == 999)
    #expect(answer.message == "check cmd: pod network is not as it should be: host route to 10.0.3.7 is missing")
  }

  @Test func statusAsksTheAgent() {
    let call = Call(command: "STATUS", environment: ["CNI_PATH": "/opt/cni/bin"], input: Call.configuration("1.1.0"))
    #expect(call.run() == PluginProcess.Answer(output: [], status: 0))
    call.node.mood = .down
    let answer = call.run()
    #expect(answer.code == 50 && answer.message == "status cmd: the agent is not ready: nobody listens")
  }

  static func entry(
    _ network: String, _ container: String, _ interface: String = "eth0", ip: String = "10.0.3.7"
  ) -> String {
    #"{"networkName":"\#(network)","containerID":"\#(container)","ifName":"\#(interface)","ipv4":"\#(ip)","#
      + #""allocationTimestamp":1,"#
      + #""metadata":{"k8sPodNamespace":"default","k8sPodName":"web-0"}}"#
  }

  static func garbage(_ checkpoints: [String], valid: String = "") -> Call {
    let call = Call(
      command: "GC", environment: ["CNI_PATH": "/opt/cni/bin"],
      input: Call.configuration("1.1.0", #","cni.dev/valid-attachments":[\#(valid)]"#))
    call.node.checkpoints = checkpoints
    return call
  }

  static func checkpoint(_ entries: String...) -> String {
    #"{"version":"vpc-cni-ipam/1","allocations":[\#(entries.joined(separator: ","))]}"#
  }

  @Test func garbageIsCollected() {
    let call = CommandTests.garbage(
      [
        CommandTests.checkpoint(
          CommandTests.entry("aws-cni", "dead"), CommandTests.entry("aws-cni", "alive", ip: "10.0.3.8"),
          CommandTests.entry("aws-cni", "alive", "eth1", ip: "10.0.3.9"),
          CommandTests.entry("other", "dead", ip: "10.0.3.10"), "7", "{}"),
        CommandTests.checkpoint(CommandTests.entry("aws-cni", "dead")),
      ], valid: #"{"containerID":"alive","ifname":"eth0"}"#)
    #expect(call.run() == PluginProcess.Answer(output: [], status: 0))
    #expect(call.node.deleteRequests.map { "\($0.containerID) \($0.ifName)" } == ["dead eth0", "alive eth1"])
    #expect(call.node.deleteRequests.allSatisfy { $0.networkName == "aws-cni" && $0.reason == "GarbageCollected" })
    #expect(call.node.events.allSatisfy { $0.hasPrefix("agent") })
  }

  @Test func garbageFailures() {
    let dead = CommandTests.checkpoint(
      CommandTests.entry("aws-cni", "dead"), CommandTests.entry("aws-cni", "gone", ip: "10.0.3.8"))
    #expect(CommandTests.garbage([]).run().status == 0)
    #expect(CommandTests.garbage(["{"]).run().code == 5)
    #expect(CommandTests.garbage([#"{"version":"9","allocations":[]}"#]).run().code == 5)
    for (mood, code) in [
      (FakeNode.AgentMood.down, 11), (.unsuccessful, 999), (.refusing(RPCStatus(.internal, "x")), 999),
    ] {
      let call = CommandTests.garbage([dead])
      call.node.mood = mood
      let answer = call.run()
      #expect(answer.code == code, "\(answer.text)")
      #expect(call.node.deleteRequests.count == (code == 11 ? 1 : 2))
    }
    let call = CommandTests.garbage([dead])
    call.node.mood = .refusing(CommandTests.unknown)
    #expect(call.run().status == 0)
    call.node.mood = .reference
    #expect(call.run().status == 0)
    #expect(call.node.events.last == "remove 10.0.3.7 table 2")
  }
}

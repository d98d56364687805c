// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import TestSupport
import Testing
import VPCLinux
import VPCModel
import VPCSystem

@testable import PluginMode

/// egress-cni as a function: what it refuses and how it says so, what it passes through, and what DEL does without root.
@Suite struct EgressTests {
  /// Records which programs are started; every one succeeds.
  final class Programs: CommandRunner {
    let started = Mutex<[String]>([])
    let status: Int32

    init(status: Int32 = 0) { self.status = status }

    func run(_ command: Command) throws(CommandError) -> CommandOutcome {
      started.withLock { $0.append(command.description) }
      if status == 127 { throw CommandError(.notFound, command.description) }
      return CommandOutcome(ending: .exited(status: status))
    }

    var all: [String] { started.withLock { $0 } }
  }

  static let result =
    #"{"cniVersion":"0.4.0","interfaces":[{"name":"eni1"},{"name":"eth0","sandbox":"/n"}],"#
    + #""ips":[{"version":"6","interface":1,"address":"2001:db8::7/128"}],"dns":{},"x":1}"#

  let folder: TemporaryFolder
  let programs: Programs

  init() { self.init(folder: TemporaryFolder(), programs: Programs()) }

  /// A configuration as the entrypoint writes it, with members replaced.
  func configuration(_ changes: [String: JSONValue?] = [:], ipam: [String: JSONValue?] = [:]) throws -> [UInt8] {
    var object: JSONObject = [
      "cniVersion": "0.4.0", "name": "aws-cni", "type": "egress-cni", "mtu": "9001", "enabled": "true",
      "randomizeSNAT": "prng", "nodeIP": "10.0.0.4", "pluginLogFile": "stderr", "pluginLogLevel": "error",
      "prevResult": try JSONParser.parse(Array(Self.result.utf8)),
    ]
    var addresses: JSONObject = [
      "type": "host-local", "ranges": .array([.array([["subnet": "169.254.172.0/22"]])]),
      "routes": .array([["dst": "0.0.0.0/0"]]), "dataDir": .string(folder.path("v4")),
    ]
    for (key, value) in ipam { addresses[key] = value }
    object["ipam"] = .object(addresses)
    for (key, value) in changes { object[key] = value }
    return JSONValue.object(object).bytes
  }

  func run(_ command: String, _ input: [UInt8], _ changes: [String: String] = [:]) -> (json: JSONValue?, status: Int32)
  {
    let environment = [
      "CNI_COMMAND": command, "CNI_CONTAINERID": "abc", "CNI_NETNS": "/no/such/namespace", "CNI_IFNAME": "eth0",
      "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p;K8S_POD_NAMESPACE=n",
    ].merging(changes) { $1 }
    let process = EgressProcess(
      environment: environment, input: { input }, kernel: HostKernel(), firewall: EgressFirewall(runner: programs),
      log: { _ in Logger(label: "test") { _ in SwiftLogNoOpLogHandler() } }, now: { ContinuousClock.now })
    let answer = process.run()
    return (try? JSONParser.parse(answer.output), answer.status)
  }

  static let wrong: [([String: JSONValue?], [String: JSONValue?], String)] = [
    (["prevResult": nil], [:], "must be called as a chained plugin: prevResult is missing"),
    (["prevResult": 7], [:], "network config: prevResult: is a number"),
    (["mtu": nil], [:], "network config: mtu is missing, must be a number in a string"),
    (["mtu": "large"], [:], #"network config: mtu is "large", must be a number"#),
    (["mtu": "large", "enabled": "false"], [:], #"network config: mtu is "large", must be a number"#),
    (["mtu": "67"], [:], #"network config: mtu is "67", must be 68 to 65535 (POD_MTU or AWS_VPC_ENI_MTU)"#),
    (["mtu": "9999999"], [:], #"network config: mtu is "9999999", must be 68 to 65535"#),
    (["nodeIP": ""], [:], #"network config: nodeIP is "", must be the node's address of the other family"#),
    (["nodeIP": "10.0.0"], [:], #"network config: nodeIP is "10.0.0", must be"#),
    (["nodeIP": "fe80::1"], [:], #"network config: nodeIP is "fe80::1", must be"#),
    (["nodeIP": nil], [:], "network config: nodeIP is missing, must be"),
    (["nodeIP": "2001:db8::4", "mtu": "1279"], [:], #"network config: mtu is "1279", must be 1280 to 65535"#),
    (["nodeIP": "2001:db8::4"], [:], #"subnet is "169.254.172.0/22", must be of the family of nodeIP 2001:db8::4"#),
    (["ipam": nil], [:], #"network config: ipam.type is missing, must be "host-local""#),
    ([:], ["type": "dhcp"], #"network config: ipam.type is "dhcp", must be "host-local""#),
    ([:], ["dataDir": "run"], #"network config: ipam.dataDir is "run", must be an absolute path without "..""#),
    ([:], ["dataDir": "/run/../etc"], #"network config: ipam.dataDir is "/run/../etc", must be an absolute path"#),
    ([:], ["dataDir": "/run\u{0}"], #"network config: ipam.dataDir is "/run"#),
    ([:], ["dataDir": 7], "network config: ipam.dataDir is 7, must be a string"),
    ([:], ["ranges": nil], "network config: ipam.ranges is missing, must be one list"),
    ([:], ["ranges": .array([])], "network config: ipam.ranges is an array, must be one list"),
    (
      [:], ["ranges": .array([.array([["subnet": "10.0.0.0/24"]]), .array([["subnet": "10.0.1.0/24"]])])],
      "network config: ipam.ranges is an array, must be one list with one list of 1 to 16 ranges"
    ),
    (
      [:], ["ranges": .array([.array([["subnet": "169.254.172.1/22"]])])],
      #"ipam.ranges[0][0].subnet is "169.254.172.1/22", must be ADDRESS/LENGTH without host bits"#
    ),
    (
      [:], ["ranges": .array([.array([["subnet": "10.0.0.0/31"]])])],
      #"ipam.ranges[0][0].subnet is "10.0.0.0/31", must be a subnet with room"#
    ),
    (
      [:], ["ranges": .array([.array([["subnet": "10.0.0.0/24", "gateway": "x"]])])],
      #"ipam.ranges[0][0].gateway is "x", must be an address"#
    ),
    (
      [:], ["routes": .array([["dst": "::/0"]])], #"ipam.routes[0].dst is "::/0", must be ADDRESS/LENGTH of the family"#
    ),
    ([:], ["routes": "all"], #"ipam.routes is "all", must be a list of at most 32 routes"#),
  ]

  @Test(arguments: wrong.indices) func addNamesTheValueAndTheRemedy(index: Int) throws {
    let (changes, ipam, text) = Self.wrong[index]
    let answer = run("ADD", try configuration(changes, ipam: ipam))
    let message = answer.json?["msg"]?.string ?? ""
    #expect(message.contains(text) && answer.status == 1, "\(message)")
    #expect(answer.json?["code"]?.int == 7)
    #expect(
      programs.all.isEmpty && (try? CommandResult.run(["ls", folder.path("v4")]).get()) == nil, "nothing was made")
  }

  @Test func addWithoutANamespaceReservesNothing() throws {
    let answer = run("ADD", try configuration())
    #expect(
      answer.json?["msg"]?.string?.contains(#"CNI_NETNS "/no/such/namespace" is not a network namespace"#) == true)
    #expect((try? CommandResult.run(["ls", folder.path("v4")]).get()) == nil)
    let long = String(repeating: "a", count: 256)
    let other = run("ADD", try configuration(["name": .string(long)]), ["CNI_CONTAINERID": long])
    #expect(other.json?["msg"]?.string?.contains("too long together") == true)
  }

  @Test(arguments: [JSONValue.string("false"), "", "True", true, .null])
  func disabledPassesThePreviousResult(enabled: JSONValue) throws {
    let previous = try JSONParser.parse(Array(Self.result.utf8))
    for (key, value) in [("nodeIP", JSONValue.string("")), ("ipam", .null)] {
      let answer = run("ADD", try configuration(["enabled": enabled, key: value]))
      #expect(answer.json == previous && answer.status == 0)
    }
    #expect(programs.all.isEmpty)
  }

  @Test(arguments: ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
  func disabledAnswersInTheConfigurationsVersion(version: String) throws {
    let text =
      version == "0.2.0"
      ? #"{"cniVersion":"0.2.0","ip6":{"ip":"2001:db8::7/128"},"dns":{}}"# : Self.result
    let answer = run(
      "ADD",
      try configuration([
        "enabled": "false", "cniVersion": .string(version), "prevResult": try JSONParser.parse(Array(text.utf8)),
      ]))
    #expect(answer.json?["cniVersion"]?.string == version && answer.status == 0)
    if version == "0.2.0" {
      #expect(answer.json?["ip6"]?["ip"]?.string == "2001:db8::7/128")
    } else {
      let address = answer.json?["ips"]?.array?.first
      #expect(address?["version"]?.string == (version < "1.0.0" ? "6" : nil))
      #expect(address?["address"]?.string == "2001:db8::7/128" && answer.json?["x"]?.int == 1)
    }
  }

  @Test func aResultWithoutListsGetsNone() throws {
    let answer = run(
      "ADD", try configuration(["enabled": "false", "prevResult": ["cniVersion": "1.0.0"], "cniVersion": "1.0.0"]))
    #expect(answer.json == ["cniVersion": "1.0.0"])
  }

  @Test func commandsWithoutWorkSucceed() throws {
    #expect(run("VERSION", []).json == CNIVersion.answer)
    #expect(run("CHECK", try configuration()).status == 0)
    for command in ["STATUS", "GC"] {
      #expect(run(command, try configuration(["cniVersion": "1.1.0"])).status == 0)
      #expect(run(command, try configuration()).json?["code"]?.int == 1)
    }
  }

  // MARK: DEL

  func reserve(_ name: String, _ content: String = "abc\r\neth0", in network: String = "v4/aws-cni") throws {
    _ = try CommandResult.run(["mkdir", "-p", folder.path(network)]).get()
    try folder.write("\(network)/\(name)", content)
  }

  func isReserved(_ name: String, in network: String = "v4/aws-cni") -> Bool {
    (try? folder.text("\(network)/\(name)")) != nil
  }

  /// By the reservation alone, whatever the configuration says now: each is found with its own family.
  @Test(
    arguments: [
      [:], ["enabled": "false", "nodeIP": ""], ["enabled": "false"], ["nodeIP": "2001:db8::4"], ["mtu": "large"],
      ["prevResult": 7], ["prevResult": nil],
    ] as [[String: JSONValue?]])
  func deleteCleansWhatEverAddMade(changes: [String: JSONValue?]) throws {
    try reserve("10.255.255.9")
    try reserve("169.254.172.8", "other\r\neth0")
    let first = run("DEL", try configuration(changes), ["CNI_NETNS": ""])
    #expect(first.status == 0 && first.json == nil)
    #expect(!isReserved("10.255.255.9") && isReserved("169.254.172.8"))
    let chain = EgressRules(family: .ipv4, network: "aws-cni", containerID: "abc").chain
    #expect(programs.all.first == "iptables-restore --noflush -w 30", "removes \(chain)")
    for _ in 0..<2 { #expect(run("DEL", try configuration(changes)).status == 0) }
  }

  @Test func disabledStartsNoProgramForAPodWithoutReservation() throws {
    for make in [false, true] {
      if make { try reserve("169.254.172.8", "other\r\neth0") }
      #expect(run("DEL", try configuration(["enabled": "false", "nodeIP": ""])).status == 0)
    }
    #expect(programs.all.isEmpty)
    #expect(!isReserved("lock", in: "v6/aws-cni"))
  }

  @Test func aNodeWithoutIptablesStillReleases() throws {
    try reserve("10.255.255.9")
    let other = EgressTests(folder: folder, programs: Programs(status: 127))
    #expect(other.run("DEL", try configuration()).status == 0)
    #expect(!isReserved("10.255.255.9"))
  }

  private init(folder: TemporaryFolder, programs: Programs) {
    self.folder = folder
    self.programs = programs
  }

  @Test func deleteWithABadFolderSaysNothingToTheRuntime() throws {
    #expect(run("DEL", try configuration([:], ipam: ["dataDir": "../x"])).status == 0)
    #expect(run("DEL", try configuration([:], ipam: ["dataDir": "/proc/none"])).status == 0)
  }

  /// Seeded; the document is cut, doubled and overwritten. Nothing crashes, and every failure has a code.
  @Test func damagedInputIsAnswered() throws {
    let whole = try configuration(["enabled": "false"])
    var generator = SplitMix64(seed: 17)
    for _ in 0..<3000 {
      var text = whole
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let at = Int.random(in: 0..<text.count, using: &generator)
        switch UInt8.random(in: 0...2, using: &generator) {
        case 0: text[at] = UInt8.random(in: 0x20...0x7e, using: &generator)
        case 1: text.removeSubrange(at..<min(text.count, at + 3))
        default: text.insert(contentsOf: text[at..<min(text.count, at + 5)], at: at)
        }
      }
      let answer = run("ADD", text)
      #expect(answer.status == 0 || answer.json?["code"]?.int != nil, "\(String(decoding: text, as: UTF8.self))")
    }
  }
}

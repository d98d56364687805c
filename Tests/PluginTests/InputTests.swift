// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import PluginMode

/// What a runtime can get wrong, and the error code and text that it gets for it.
@Suite struct InputTests {
  struct Bad: Sendable, CustomTestStringConvertible {
    var testDescription: String { "\(command) \(text)" }
    var command = "ADD"
    var change: [String: String?] = [:]
    var input = Call.configuration()
    let code: Int
    let text: String
  }

  static let environment: [Bad] = [
    Bad(command: "", code: 4, text: "required env variables [CNI_COMMAND] missing"),
    Bad(command: "add", code: 4, text: #"unknown CNI_COMMAND: "add""#),
    Bad(
      change: ["CNI_CONTAINERID": nil, "CNI_NETNS": "", "CNI_IFNAME": nil, "CNI_PATH": nil], code: 4,
      text: "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing"),
    Bad(
      command: "DEL", change: ["CNI_IFNAME": nil, "CNI_NETNS": nil], code: 4,
      text: "required env variables [CNI_IFNAME] missing"),
    Bad(command: "CHECK", change: ["CNI_NETNS": nil], code: 4, text: "required env variables [CNI_NETNS] missing"),
    Bad(command: "GC", change: ["CNI_PATH": nil], code: 4, text: "required env variables [CNI_PATH] missing"),
    Bad(change: ["CNI_CONTAINERID": "../x"], code: 4, text: #"invalid characters in CNI_CONTAINERID: "../x""#),
    Bad(change: ["CNI_CONTAINERID": "-x"], code: 4, text: "invalid characters in CNI_CONTAINERID"),
    Bad(
      change: ["CNI_CONTAINERID": String(repeating: "a", count: 257)], code: 4,
      text: "CNI_CONTAINERID is longer than 256 bytes"),
    Bad(change: ["CNI_IFNAME": "a/b"], code: 4, text: #"CNI_IFNAME contains / or : or whitespace characters: "a/b""#),
    Bad(change: ["CNI_IFNAME": "a b"], code: 4, text: "CNI_IFNAME contains"),
    Bad(change: ["CNI_IFNAME": "é"], code: 4, text: "CNI_IFNAME contains"),
    Bad(change: ["CNI_IFNAME": ".."], code: 4, text: #"CNI_IFNAME must not be "..""#),
    Bad(change: ["CNI_IFNAME": "abcdefghijklmnop"], code: 4, text: "CNI_IFNAME is longer than 15 bytes"),
    Bad(
      change: ["CNI_NETNS": String(repeating: "/", count: 4096)], code: 4, text: "CNI_NETNS is longer than 4095 bytes"),
    Bad(change: ["CNI_NETNS": "/etc/passwd"], code: 4, text: #"CNI_NETNS "/etc/passwd" is not a network namespace"#),
    Bad(change: ["CNI_ARGS": "K8S_POD_NAME"], code: 4, text: #"CNI_ARGS: invalid pair "K8S_POD_NAME""#),
    Bad(change: ["CNI_ARGS": "A=b"], code: 4, text: #"CNI_ARGS: unknown argument "A" and no IgnoreUnknown=true"#),
    Bad(
      change: ["CNI_ARGS": "IgnoreUnknown=maybe"], code: 4, text: "CNI_ARGS: IgnoreUnknown is neither true nor false"),
    Bad(
      change: ["CNI_ARGS": "K8S_POD_NAME=a/b"], code: 4, text: #"CNI_ARGS: invalid characters in K8S_POD_NAME: "a/b""#),
    Bad(
      change: ["CNI_ARGS": "K8S_POD_NAMESPACE=" + String(repeating: "a", count: 64)], code: 4,
      text: "CNI_ARGS: K8S_POD_NAMESPACE is longer than 63 bytes"),
    Bad(change: ["CNI_ARGS": nil], code: 4, text: "CNI_ARGS: K8S_POD_NAME is missing"),
    Bad(change: ["CNI_ARGS": "K8S_POD_NAME=a"], code: 4, text: "CNI_ARGS: K8S_POD_NAMESPACE is missing"),
    Bad(
      change: ["CNI_ARGS": String(repeating: "a", count: 32769)], code: 4, text: "CNI_ARGS is longer than 32768 bytes"),
  ]

  static let configurations: [Bad] = [
    Bad(input: "", code: 6, text: "network config: invalid JSON at byte 0"),
    Bad(input: "{", code: 6, text: "network config: invalid JSON at byte 1"),
    Bad(input: "[]", code: 6, text: "network config is an array, not an object"),
    Bad(input: String(repeating: "[", count: 100), code: 6, text: "nested deeper than 64"),
    Bad(input: String(repeating: " ", count: 1 << 20) + "{}", code: 6, text: "network config: more than 1048576 bytes"),
    Bad(input: #"{"cniVersion":"0.4.0"}"#, code: 7, text: "missing network name"),
    Bad(input: #"{"name":"a/b"}"#, code: 7, text: #"invalid characters found in network name: "a/b""#),
    Bad(input: #"{"name":7}"#, code: 6, text: "network config: name is a number, not a string"),
    Bad(input: #"{"cniVersion":7,"name":"a"}"#, code: 6, text: "cniVersion is a number, not a string"),
    Bad(input: #"{"cniVersion":"2.0.0","name":"a"}"#, code: 1, text: "incompatible CNI versions"),
    Bad(
      input: Call.configuration("0.4.0", #","vethPrefix":"abcde""#), code: 7,
      text: #"vethPrefix can be at most 4 characters long, not "abcde""#),
    Bad(
      input: Call.configuration("0.4.0", #","vethPrefix":"e/i""#), code: 7,
      text: "vethPrefix cannot begin an interface's name"),
    Bad(input: Call.configuration("0.4.0", #","vethPrefix":7"#), code: 7, text: "vethPrefix is a number, not a string"),
    Bad(
      input: Call.configuration("0.4.0", #","pluginLogFile":"stdout""#), code: 7,
      text: "pluginLogFile must not be stdout, which carries the result"),
    Bad(
      input: Call.configuration("0.4.0", #","pluginLogFile":"/dev/fd/1""#), code: 7,
      text: "pluginLogFile must not be stdout, which carries the result"),
    Bad(input: Call.configuration("0.4.0", #","prevResult":7"#), code: 7, text: "prevResult: is a number"),
    // The fuzzer found this one: `interfaces` of such a result was passed on unchecked.
    Bad(
      input: Call.configuration("1.1.0", #","prevResult":{"cniVersion":"0.1.0","interfaces":[{"sandbox":1}]}"#),
      code: 7, text: #"prevResult: cniVersion "0.1.0" does not fit the configuration's 1.1.0"#),
    Bad(
      command: "CHECK", input: Call.configuration("0.3.1"), code: 1, text: "config version does not allow CHECK"),
    Bad(command: "CHECK", code: 7, text: "network config: prevResult is missing, CHECK needs it"),
    Bad(
      command: "CHECK", input: Call.configuration("0.4.0", #","prevResult":{"interfaces":[]}"#), code: 7,
      text: "prevResult holds no entry of this plugin"),
    Bad(command: "GC", code: 1, text: "config version does not allow GC"),
    Bad(command: "STATUS", input: Call.configuration("1.0.0"), code: 1, text: "config version does not allow STATUS"),
    Bad(
      command: "GC", input: Call.configuration("1.1.0"), code: 7,
      text: "network config: cni.dev/valid-attachments is missing, GC needs it"),
    Bad(
      command: "GC", input: Call.configuration("1.1.0", #","cni.dev/valid-attachments":[{}]"#), code: 7,
      text: "cni.dev/valid-attachments[0] lacks containerID or ifname"),
    Bad(
      command: "GC", input: Call.configuration("1.1.0", #","cni.dev/valid-attachments":7"#), code: 7,
      text: "cni.dev/valid-attachments is a number, not an array"),
  ]

  @Test(arguments: environment + configurations) func refused(_ bad: Bad) {
    var call = Call(command: bad.command, input: bad.input)
    for (key, value) in bad.change { call.environment[key] = value }
    let answer = call.run()
    #expect(answer.code == bad.code && answer.status == 1)
    #expect(answer.message.contains(bad.text), "\(answer.text)")
    #expect(call.node.events.isEmpty, "nothing is asked of agent and kernel")
    #expect(answer.output.last == 0x0a && answer.json?["cniVersion"]?.string != nil)
  }

  @Test func errorsCarryTheConfigurationsVersion() {
    #expect(Call(command: "ADD", environment: [:]).run().json?["cniVersion"]?.string == "1.1.0")
    let check = Call(command: "CHECK", input: Call.configuration("0.3.1")).run()
    #expect(check.json?["cniVersion"]?.string == "0.3.1")
    let unknown = Call(command: "ADD", input: #"{"cniVersion":"2.0.0","name":"a"}"#).run()
    #expect(
      unknown.json?["details"]?.string
        == #"config cniVersion is "2.0.0", plugin supports ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "#
        + #""1.1.0"]"#)
  }

  @Test func versionNeedsNothing() {
    let answer = Call(command: "VERSION", environment: [:], input: "").run()
    #expect(
      answer.text == #"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","#
        + "\"1.1.0\"]}\n")
    #expect(answer.status == 0)
  }

  @Test(
    arguments: [
      (#""8000""#, 8000), ("8000", 8000), (#""575""#, 9001), (#""9002""#, 9001), (#""x""#, 9001), ("null", 9001),
      (#""576""#, 576), ("[]", 9001), (#""99999999999999999999""#, 9001),
    ] as [(String, UInt32)])
  func mtu(text: String, value: UInt32) throws {
    let configuration = try NetworkConfiguration(Array(Call.configuration("0.4.0", #","mtu":\#(text)"#).utf8))
    #expect(configuration.mtu == value)
    try configuration.check()
  }

  @Test func defaults() throws {
    let configuration = try NetworkConfiguration(Array(#"{"name":"a","vethPrefix":""}"#.utf8))
    #expect(configuration.version == .v010 && configuration.vethPrefix == "eni" && configuration.mtu == 9001)
    #expect(configuration.podSGEnforcingMode == "strict" && configuration.pluginLogFile.isEmpty)
    #expect(configuration.validAttachments == nil && !configuration.requiresMultiNICAttachment)
  }

  /// Whatever the input is, the output is empty or one JSON document, and the exit status shows an error.
  @Test(arguments: 1...4) func mutatedInput(seed: UInt64) throws {
    var generator = SplitMix64(seed: seed)
    let previous =
      #","prevResult":\#(ResultTests.results[4].1),"cni.dev/valid-attachments":[{"containerID":"a","ifname":"b"}]"#
    let template = Array(Call.configuration("1.1.0", previous).utf8)
    let tokens = ["null", "[]", "{}", "\"", "\\u0000", "1e999", "-", ",", "0.4.0", "mac", "/", "\u{fffd}"].map {
      Array($0.utf8)
    }
    for _ in 0..<1500 {
      var bytes = template
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let at = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...20, using: &generator)))
        case 2: bytes.insert(contentsOf: tokens.randomElement(using: &generator) ?? [], at: at)
        case 3: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 40)], at: at)
        default: bytes.removeSubrange(at...)
        }
        if bytes.isEmpty { bytes = [0x7b] }
      }
      for command in CNICommand.allCases {
        let call = Call(command: command.rawValue)
        call.node.checkpoints = [#"{"version":"vpc-cni-ipam/1","allocations":[]}"#]
        let answer = call.run(bytes: bytes)
        #expect(answer.output.isEmpty || answer.json?.object != nil)
        #expect((answer.status == 1) == (answer.json?["code"] != nil))
      }
    }
  }
}

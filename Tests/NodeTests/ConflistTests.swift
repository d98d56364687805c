// SPDX-License-Identifier: Apache-2.0

import Testing
import TestSupport
import VPCModel
import VPCSystem

@testable import NodeMode

/// The network configuration list (conflist), from templates and settings to the text of the file.
@Suite struct ConflistTests {
  static func settings(_ environment: [String: String] = [:]) throws -> NodeSettings {
    try NodeSettings(environment: environment)
  }

  static func golden(_ name: String) throws -> [UInt8] {
    let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
    return try BoundedFile.read("/\(folder)/Golden/\(name)", limit: 1 << 20)
  }

  /// The exact bytes of the file.
  @Test(arguments: [
    ("default", [:]),
    ("bandwidth", ["ENABLE_BANDWIDTH_PLUGIN": "true"]),
    ("tuning", ["DISABLE_POD_V6": "1"]),
    (
      "everything",
      [
        "ENABLE_BANDWIDTH_PLUGIN": "true", "DISABLE_POD_V6": "true", "AWS_VPC_K8S_CNI_VETHPREFIX": "pod",
        "AWS_VPC_ENI_MTU": "1500", "POD_MTU": "1400", "POD_SECURITY_GROUP_ENFORCING_MODE": "standard",
        "AWS_VPC_K8S_PLUGIN_LOG_FILE": "stderr", "AWS_VPC_K8S_PLUGIN_LOG_LEVEL": "WARN",
      ]
    ),
  ])
  func builtInTemplate(name: String, environment: [String: String]) throws {
    let made = try Conflist(template: nil, path: "-", settings: Self.settings(environment))
    #expect(Array(made.text.utf8) == (try Self.golden("\(name).conflist")), "\(made.text)")
    #expect(made.notes.isEmpty)
  }

  /// The template that the amazon-vpc-cni-k8s chart mounts, and one with unknown keys and entries.
  @Test(arguments: [("existing", false), ("own", true)])
  func mountedTemplate(name: String, hasUnknownWord: Bool) throws {
    let template = try Self.golden("\(name).template")
    let settings = try Self.settings(["ENABLE_BANDWIDTH_PLUGIN": "true", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "hashrandom"])
    let made = try Conflist(template: template, path: "/app/10-aws.conflist", settings: settings)
    #expect(Array(made.text.utf8) == (try Self.golden("\(name).conflist")), "\(made.text)")
    #expect(made.notes == (hasUnknownWord ? ["__CLUSTER__ is not a placeholder and stays unchanged"] : []))
  }

  @Test func podMTUIsTheENIsWhereUnset() throws {
    let made = try Conflist(template: nil, path: "-", settings: Self.settings(["AWS_VPC_ENI_MTU": "1500"]))
    #expect(made.document["plugins"]?.array?.first?["mtu"] == "1500")
  }

  /// A value with a quote in it must not end the string that contains it.
  @Test func valuesAreEscaped() throws {
    let path = #"/var/log/a"b\c.log"#
    let made = try Conflist(template: nil, path: "-", settings: Self.settings(["AWS_VPC_K8S_PLUGIN_LOG_FILE": path]))
    #expect(made.document["plugins"]?.array?.first?["pluginLogFile"] == .string(path))
  }

  @Test func anEntryThatIsThereIsNotAddedAgain() throws {
    let template = #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"aws-cni"},{"type":"bandwidth","x":1}]}"#
    let made = try Conflist(
      template: Array(template.utf8), path: "-", settings: Self.settings(["ENABLE_BANDWIDTH_PLUGIN": "true"]))
    #expect(made.document == (try JSONParser.parse(Array(template.utf8))))
  }

  private static func egress(_ made: Conflist) -> JSONValue? {
    made.document["plugins"]?.array?.first { $0["type"] == "egress-cni" }
  }

  /// The entry is always there: switched off, the plugin cleans up after earlier pods.
  @Test(
    arguments: [
      (["ENABLE_V6_EGRESS": "true"], "2001:db8::4", "true", "fd00::ac:00/118", "::/0", "/run/cni/v4pd/egress-v6-ipam"),
      (
        ["ENABLE_IPv6": "true"], "10.0.0.4", "true", "169.254.172.0/22", "0.0.0.0/0", "/run/cni/v6pd/egress-v4-ipam"
      ),
      (
        ["ENABLE_IPv6": "true", "ENABLE_V4_EGRESS": "false"], nil, "false", "169.254.172.0/22", "0.0.0.0/0",
        "/run/cni/v6pd/egress-v4-ipam"
      ),
      ([:], nil, "false", "fd00::ac:00/118", "::/0", "/run/cni/v4pd/egress-v6-ipam"),
    ] as [([String: String], String?, JSONValue, JSONValue, JSONValue, JSONValue)])
  func egressIsInEveryList(
    environment: [String: String], address: String?, enabled: JSONValue, subnet: JSONValue, everything: JSONValue,
    folder: JSONValue
  ) throws {
    let made = try Conflist(
      template: nil, path: "-", settings: Self.settings(environment), nodeAddress: address.flatMap { IPAddress($0) })
    #expect(made.notes.isEmpty)
    #expect(made.document["plugins"]?.array?.map { $0["type"] } == ["aws-cni", "egress-cni", "portmap"])
    let entry = try #require(Self.egress(made))
    #expect(entry["enabled"] == enabled && entry["nodeIP"] == .string(address ?? ""))
    #expect(entry["ipam"]?["ranges"] == .array([.array([["subnet": subnet]])]))
    #expect(entry["ipam"]?["routes"] == .array([["dst": everything]]) && entry["ipam"]?["dataDir"] == folder)
  }

  @Test(
    arguments: [
      (["ENABLE_V6_EGRESS": "true"], nil, "ENABLE_V6_EGRESS is true, but the node has no IPv6 address", "false"),
      (["ENABLE_IPv6": "true"], nil, "ENABLE_V4_EGRESS is true, but the node has no IPv4 address", "false"),
      (
        ["ENABLE_V6_EGRESS": "true", "DISABLE_POD_V6": "true"], "2001:db8::4",
        "DISABLE_POD_V6 switches off the IPv6", "true"
      ),
    ] as [([String: String], String?, String, JSONValue)])
  func egressThatCannotWorkIsTold(
    environment: [String: String], address: String?, note: String, enabled: JSONValue
  ) throws {
    let made = try Conflist(
      template: nil, path: "-", settings: Self.settings(environment), nodeAddress: address.flatMap { IPAddress($0) })
    #expect(made.notes.count == 1 && made.notes[0].hasPrefix(note), "\(made.notes)")
    #expect(Self.egress(made)?["enabled"] == enabled)
  }

  @Test func aTemplateWithoutEgressIsTold() throws {
    let template = #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"aws-cni"}]}"#
    let made = try Conflist(
      template: Array(template.utf8), path: "-", settings: Self.settings(["ENABLE_V6_EGRESS": "true"]),
      nodeAddress: IPAddress("2001:db8::4"))
    #expect(made.notes.count == 1 && made.notes[0].contains("no entry of type egress-cni"), "\(made.notes)")
  }

  @Test func templateWithoutOurPluginIsTold() throws {
    let template = #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}"#
    let made = try Conflist(template: Array(template.utf8), path: "-", settings: Self.settings())
    #expect(made.notes == ["the template has no entry of type aws-cni: pods get no address from this agent"])
  }

  @Test(arguments: [
    ("not json", "invalid JSON at byte 0"),
    ("", "invalid JSON at byte 0"),
    (#"{"name":"n""#, "invalid JSON at byte 11"),
    ("[]", "the document is an array, must be an object"),
    (#"{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}"#, #""name" is missing"#),
    (
      #"{"cniVersion":"1.0.0","name":"","plugins":[{"type":"a"}]}"#,
      #""name" is a string, must be a string that is not empty"#
    ),
    (#"{"name":"n","plugins":[{"type":"a"}]}"#, #""cniVersion" is missing"#),
    (#"{"cniVersion":1,"name":"n","plugins":[{"type":"a"}]}"#, #""cniVersion" is a number"#),
    (#"{"cniVersion":"1.0.0","name":"n"}"#, #""plugins" is missing, must be an array"#),
    (#"{"cniVersion":"1.0.0","name":"n","plugins":{}}"#, #""plugins" is an object"#),
    (#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, #""plugins" is empty"#),
    (
      #"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"},"b"]}"#,
      #""plugins"[1] is a string, must be an object"#
    ),
    (#"{"cniVersion":"1.0.0","name":"n","plugins":[{"name":"a"}]}"#, #""plugins"[0].type is missing"#),
    (#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"../a"}]}"#, #""plugins"[0].type"#),
  ])
  func badTemplateIsRefusedByFileAndField(template: String, problem: String) throws {
    let error = #expect(throws: ConflistError.self) {
      try Conflist(template: Array(template.utf8), path: "/app/10-aws.conflist", settings: Self.settings())
    }
    let text = try #require(error).description
    #expect(text.hasPrefix("template /app/10-aws.conflist: ") && text.contains(problem), "\(text)")
  }

  @Test(arguments: [
    ("__MTU__", "9001", []), ("a__MTU____MTU__b", "a90019001b", []), ("__MTU_", "__MTU_", []),
    ("_", "_", []), ("____", "____", []), ("__mtu__", "__mtu__", []), ("__X1__ __X1__", "__X1__ __X1__", ["__X1__"]),
    ("___MTU__", "_9001", []),
  ])
  func placeholdersAreWholeWords(text: String, filled: String, unknown: [String]) throws {
    let result = ConflistPlaceholders(try Self.settings()).fill(Array(text.utf8))
    #expect(String(decoding: result.text, as: UTF8.self) == filled)
    #expect(result.unknown == unknown)
  }

  @Test(arguments: [
    ("00-multus.conf", true), ("05-cilium.conflist", true), ("10-aws.conflist", false), ("99-loop.conf", false),
    ("05-x.conflist.bak", false), ("10-aws.conf", true),
  ])
  func whoIsTakenBefore(name: String, isBefore: Bool) {
    #expect(Conflist.isTakenBefore(name) == isBefore)
  }

  /// Any template results in a list or an error.
  @Test func changedTemplatesNeverTrap() throws {
    let template = try Self.golden("own.template")
    let settings = try Self.settings(["ENABLE_BANDWIDTH_PLUGIN": "true"])
    var random = SplitMix64(seed: 28)
    for _ in 0..<2000 {
      var changed = template
      for _ in 0...(random.next() % 3) {
        let at = Int(random.next() % UInt64(changed.count))
        switch random.next() % 3 {
        case 0: changed[at] = UInt8(truncatingIfNeeded: random.next())
        case 1: changed.remove(at: at)
        default: changed.insert(contentsOf: changed[at...].prefix(8), at: at)
        }
      }
      if let made = try? Conflist(template: changed, path: "-", settings: settings) {
        #expect((try? JSONParser.parse(Array(made.text.utf8))) == made.document)
      }
    }
  }
}

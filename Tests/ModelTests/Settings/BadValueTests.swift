// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The effect of a bad value of each variable. A variable without a row fails the first test.
@Suite struct BadValueTests {
  enum Outcome: Sendable {
    /// The agent does not start; the error names the variable, the value and what is allowed.
    case refused
    /// The agent starts, logs a warning and uses this value instead.
    case warns(String)
  }

  static let rows: [String: [(value: String, outcome: Outcome)]] = [
    "ENABLE_IPv4": [("on", .warns("true"))],
    "ENABLE_IPv6": [("no", .warns("false"))],
    "ENABLE_V6_EGRESS": [("2", .warns("false"))],
    "AWS_VPC_K8S_CNI_VETHPREFIX": [("longer", .refused), ("eth", .refused), ("a/b", .refused), ("é", .refused)],
    "AWS_VPC_ENI_MTU": [("575", .refused), ("9002", .refused), ("big", .refused)],
    "POD_MTU": [("0", .refused), ("-1", .refused)],
    "WARM_ENI_TARGET": [("-1", .warns("1")), ("100001", .warns("1")), ("99999999999999999999", .warns("1"))],
    "WARM_IP_TARGET": [("-1", .warns("0")), ("many", .warns("0"))],
    "MINIMUM_IP_TARGET": [("-1", .warns("0")), ("1e3", .warns("0"))],
    "WARM_PREFIX_TARGET": [("-1", .warns("0")), ("1.5", .warns("0"))],
    "MAX_ENI": [("x", .warns("-1")), ("1 2", .warns("-1"))],
    "ENABLE_PREFIX_DELEGATION": [("yes", .warns("false"))],
    "IP_COOLDOWN_PERIOD": [("-1", .refused), ("30s", .refused), ("86401", .refused)],
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": [("y", .warns("false"))],
    "ENI_CONFIG_ANNOTATION_DEF": [("a\nb", .refused)],
    "ENI_CONFIG_LABEL_DEF": [("a\u{7f}", .refused)],
    "AWS_MANAGE_ENIS_NON_SCHEDULABLE": [("y", .warns("false"))],
    "ENABLE_SUBNET_DISCOVERY": [("off", .warns("true"))],
    "DISABLE_NETWORK_RESOURCE_PROVISIONING": [("y", .warns("false"))],
    "DISABLE_LEAKED_ENI_CLEANUP": [("y", .warns("false"))],
    "ENABLE_IMDS_ONLY_MODE": [("y", .warns("false"))],
    "MANAGE_UNTAGGED_ENI": [("n", .warns("true"))],
    "VPC_CNI_ADD_TIMEOUT": [("0", .refused), ("601", .refused), ("20s", .refused)],
    "AWS_VPC_K8S_CNI_BACKING_STORE": [("ipam.json", .refused), ("/a\nb", .refused)],
    "VPC_CNI_MAX_PODS_FILE": [("max-pods.txt", .refused), ("/a\tb", .refused)],
    "AWS_VPC_K8S_CNI_EXTERNALSNAT": [("y", .warns("false"))],
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": [("10.0.0.0/33", .warns("the rest")), ("fd00::/8", .warns("the rest"))],
    "AWS_EXTERNAL_SERVICE_CIDRS": [("10.0.0.0", .warns("the rest"))],
    "AWS_VPC_CNI_NODE_PORT_SUPPORT": [("y", .warns("true"))],
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT": [("dice", .warns("prng"))],
    "AWS_VPC_K8S_CNI_CONNMARK": [("0", .warns("0x80")), ("0x1ffffffff", .warns("0x80")), ("x", .warns("0x80"))],
    "VPC_CNI_ENI_MARK_MASK": [("0x80", .refused), ("0x5", .refused), ("mask", .refused), ("0", .refused)],
    "VPC_CNI_POD_RULES": [("none", .refused)],
    "ENABLE_POD_ENI": [("y", .warns("false"))],
    "POD_SECURITY_GROUP_ENFORCING_MODE": [("lax", .warns("strict"))],
    "NETWORK_POLICY_ENFORCING_MODE": [("soft", .refused)],
    "ENABLE_MULTI_NIC": [("y", .warns("false"))],
    "ANNOTATE_POD_IP": [("y", .warns("false"))],
    "AWS_VPC_K8S_CNI_LOGLEVEL": [("loud", .warns("debug"))],
    "AWS_VPC_K8S_CNI_LOG_FILE": [("/var/log/\u{1}", .refused)],
    "INTROSPECTION_BIND_ADDRESS": [("127.0.0.1:61679\r\nX: y", .refused)],
    "DISABLE_INTROSPECTION": [("y", .warns("false"))],
    "DISABLE_METRICS": [("y", .warns("false"))],
    "ADDITIONAL_ENI_TAGS": [
      ("{", .warns("no additional tags")), ("[1]", .warns("no additional tags")),
      (#"{"aws:x":"y"}"#, .warns("the other tags")), (#"{"":"y"}"#, .warns("the other tags")),
      (#"{"a":1}"#, .warns("the other tags")), (#"{"node.k8s.amazonaws.com/x":"y"}"#, .warns("the other tags")),
      (#"{"a":""# + String(repeating: "v", count: 257) + #""}"#, .warns("the other tags")),
    ],
    "CLUSTER_NAME": [("blue\n", .refused)],
    "CLUSTER_ENDPOINT": [("https://x\ny", .refused)],
    "HTTP_TIMEOUT": [("5", .warns("10")), ("601", .warns("10")), ("10s", .warns("10"))],
    // The value goes into the User-Agent of every request.
    "VPC_CNI_VERSION": [("v1\r\nX-Injected: y", .refused)],
    "MY_NODE_NAME": [("a\0b", .refused)],
    "MY_POD_NAME": [("a\u{1b}[31m", .refused)],
  ]

  @Test func everyVariableHasARow() {
    #expect(Set(Self.rows.keys) == Set(Setting.all.map(\.name)))
    #expect(Self.rows.values.allSatisfy { !$0.isEmpty })
  }

  @Test(arguments: Setting.all) func badValues(_ setting: Setting) throws {
    for (value, outcome) in Self.rows[setting.name] ?? [] {
      switch outcome {
      case .refused:
        let error = #expect(throws: SettingError.self) { try Settings(environment: [setting.name: value]) }
        #expect(error?.name == setting.name && error?.allowed.isEmpty == false)
        let text = error.map { "\($0)" } ?? ""
        #expect(text.hasPrefix("\(setting.name) is \"") && text.contains("allowed is "), "\(text)")
        #expect(!text.utf8.contains { $0 < 0x20 }, "an error is one line")
      case .warns(let used):
        let settings = try Settings(environment: [setting.name: value])
        #expect(settings.warnings.count == 1, "\(value)")
        let text = settings.warnings.first.map { "\($0)" } ?? ""
        #expect(text.hasPrefix("\(setting.name) is \"") && text.contains("using \(used)"), "\(text)")
      }
    }
  }

  /// The agent accepts the declared range and nothing beyond it.
  @Test(arguments: Setting.all.filter { $0.shape == .int && $0.range != Int.min...Int.max })
  func rangesHold(_ setting: Setting) throws {
    for number in [setting.range.lowerBound, setting.range.upperBound] {
      #expect(try Settings(environment: [setting.name: "\(number)"]).warnings == [], "\(number)")
    }
    for number in [setting.range.lowerBound - 1, setting.range.upperBound + 1] {
      let warnings = (try? Settings(environment: [setting.name: "\(number)"]))?.warnings
      #expect(warnings == nil || warnings?.count == 1, "\(number) is neither refused nor ignored")
    }
  }

  /// More tags than an ENI can have in addition to the agent's own would make every creation fail.
  @Test func tooManyTags() throws {
    let tags = (0..<50).map { "\"k\($0)\":\"v\"" }.joined(separator: ",")
    let settings = try Settings(environment: ["ADDITIONAL_ENI_TAGS": "{\(tags)}"])
    #expect(settings.additionalTags.count == 46 && settings.warnings.count == 4)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The settings of the entrypoint and the init container.
@Suite struct NodeSettingsTests {
  @Test func defaultsAreThoseOfTheTable() throws {
    let settings = try NodeSettings(environment: [:])
    let byName = Dictionary(uniqueKeysWithValues: Setting.node.map { ($0.name, $0.fallback) })
    #expect(settings.binaryFolder == byName["HOST_CNI_BIN_PATH"])
    #expect(settings.configurationFolder == byName["HOST_CNI_CONFDIR_PATH"])
    #expect(settings.templatePath == byName["VPC_CNI_CONFLIST_TEMPLATE"])
    #expect(settings.corePluginsFolder == byName["VPC_CNI_CORE_PLUGINS_PATH"])
    #expect(settings.pluginLogFile == byName["AWS_VPC_K8S_PLUGIN_LOG_FILE"])
    #expect(settings.pluginLogLevel == byName["AWS_VPC_K8S_PLUGIN_LOG_LEVEL"])
    #expect(settings.egressV4LogFile == byName["AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE"])
    #expect(settings.egressV6LogFile == byName["AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE"])
    #expect(!settings.disablesEarlyDemux && !settings.usesBandwidthPlugin && !settings.disablesPodIPv6)
    #expect(settings.hasV4Egress && settings.warnings.isEmpty)
  }

  /// Variable and value; every variable of `Setting.node` that can be refused has a row.
  @Test(arguments: [
    ("HOST_CNI_BIN_PATH", "opt/cni/bin"), ("HOST_CNI_CONFDIR_PATH", "/a\nb"), ("VPC_CNI_CONFLIST_TEMPLATE", "10-aws"),
    ("VPC_CNI_CORE_PLUGINS_PATH", "."), ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "stdout"),
    ("AWS_VPC_K8S_PLUGIN_LOG_FILE", "plugin.log"), ("AWS_VPC_K8S_EGRESS_V4_PLUGIN_LOG_FILE", "STDOUT"),
    ("AWS_VPC_K8S_EGRESS_V6_PLUGIN_LOG_FILE", "x"), ("AWS_VPC_K8S_CNI_VETHPREFIX", "vlan"), ("POD_MTU", "1"),
    ("AWS_VPC_ENI_MTU", "9002"), ("IP_COOLDOWN_PERIOD", "-1"),
  ])
  func badValueIsRefusedByName(name: String, value: String) throws {
    let error = #expect(throws: SettingError.self) { try NodeSettings(environment: [name: value]) }
    #expect(try #require(error).description.hasPrefix("\(name) is \""))
  }

  @Test(arguments: [
    ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "loud", "Debug"), ("ENABLE_BANDWIDTH_PLUGIN", "yes", "false"),
    ("DISABLE_POD_V6", "yes", "false"), ("DISABLE_TCP_EARLY_DEMUX", "on", "false"), ("ENABLE_V4_EGRESS", "off", "true"),
  ])
  func badValueFallsBackWithAWarning(name: String, value: String, used: String) throws {
    let warnings = try NodeSettings(environment: [name: value]).warnings
    #expect(warnings.map(\.name) == [name] && warnings[0].used == used && warnings[0].value == value)
  }

  @Test(arguments: [
    ([:], true), (["WARM_PREFIX_TARGET": "0", "WARM_IP_TARGET": "0"], true), (["WARM_PREFIX_TARGET": "1"], false),
    (["WARM_IP_TARGET": "5"], false), (["MINIMUM_IP_TARGET": "10"], false),
  ])
  func prefixesNeedATarget(targets: [String: String], isRefused: Bool) throws {
    let environment = targets.merging(["ENABLE_PREFIX_DELEGATION": "true"]) { $1 }
    if isRefused {
      let error = #expect(throws: SettingError.self) { try NodeSettings(environment: environment) }
      #expect(try #require(error).description.contains("WARM_PREFIX_TARGET"))
    } else {
      _ = try NodeSettings(environment: environment)
    }
    _ = try Settings(environment: environment)
  }

  @Test func enforcingModeIsCheckedWhereItActs() throws {
    let environment = ["POD_SECURITY_GROUP_ENFORCING_MODE": "lax"]
    #expect(try NodeSettings(environment: environment).agent.podSecurityGroupMode == .strict)
    #expect(throws: SettingError.self) {
      try NodeSettings(environment: environment.merging(["ENABLE_POD_ENI": "true"]) { $1 })
    }
  }

  @Test func namesAreNotTwice() {
    let names = (Setting.all + Setting.node).map(\.name)
    #expect(Set(names).count == names.count)
  }
}

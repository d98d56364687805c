// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct MetricsHelperSettingsTests {
  @Test func defaults() throws {
    let settings = try MetricsHelperSettings(environment: [:])
    #expect(settings.sendsToCloudWatch && !settings.servesPrometheus && settings.interval == .seconds(30))
    #expect(settings.clusterID == nil && settings.route == .proxy && settings.agentTimeout == .seconds(5))
    #expect(settings.width == 32 && settings.logLevel == .debug && settings.warnings.isEmpty)
  }

  @Test(arguments: [
    ("yes", true), ("no", false), ("true", true), ("false", false), ("YES", true), ("1", true), ("F", false),
  ])
  func yesAndNoAreTaken(text: String, value: Bool) throws {
    let settings = try MetricsHelperSettings(
      environment: ["USE_CLOUDWATCH": text, "USE_PROMETHEUS": text], cloudWatchFlag: !value)
    #expect(settings.sendsToCloudWatch == value && settings.servesPrometheus == value && settings.warnings.isEmpty)
  }

  @Test func theFlagHoldsWhereTheVariableIsUnsetOrWrong() throws {
    #expect(try !MetricsHelperSettings(environment: [:], cloudWatchFlag: false).sendsToCloudWatch)
    let wrong = try MetricsHelperSettings(environment: ["USE_CLOUDWATCH": "maybe"], cloudWatchFlag: false)
    #expect(!wrong.sendsToCloudWatch && wrong.warnings.map(\.name) == ["USE_CLOUDWATCH"])
  }

  @Test(arguments: [
    ("METRIC_UPDATE_INTERVAL", "soon"), ("METRIC_UPDATE_INTERVAL", "0"), ("METRIC_UPDATE_INTERVAL", "1.5"),
    ("VPC_CNI_SCRAPE", "pigeon"), ("VPC_CNI_SCRAPE_TIMEOUT", "61"), ("VPC_CNI_SCRAPE_WIDTH", "0"),
    ("AWS_CLUSTER_ID", "größe"), ("AWS_CLUSTER_ID", "  "), ("AWS_CLUSTER_ID", "a\nb"),
    ("AWS_CLUSTER_ID", String(repeating: "x", count: 1025)),
  ])
  func aBadValueIsRefusedByName(name: String, value: String) {
    let error = #expect(throws: SettingError.self) { try MetricsHelperSettings(environment: [name: value]) }
    #expect(error?.name == name && error.map { !$0.allowed.isEmpty } == true)
  }

  @Test func clusterNamesAreThoseThatCloudWatchTakes() {
    for text in ["a", "my cluster", String(repeating: "x", count: 1024)] {
      #expect(MetricsHelperSettings.isClusterID(text))
    }
    for text in ["", "  ", "ü", "a\n", String(repeating: "x", count: 1025)] {
      #expect(!MetricsHelperSettings.isClusterID(text))
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

/// The metrics helper's settings from environment and flag, read once at startup. Names, defaults and rules are those
/// of `Setting.metricsHelper`; variables of the AWS SDKs and of the Kubernetes client belong to their layers.
package struct MetricsHelperSettings: Sendable, Hashable {
  /// How the agents are reached.
  package enum Route: String, SettingWord, Sendable { case proxy, direct }

  /// Warnings about ignored values, to be logged once.
  package let warnings: [SettingWarning]

  package let sendsToCloudWatch: Bool
  package let servesPrometheus: Bool
  package let interval: Duration
  /// Nil if it must be determined.
  package let clusterID: String?
  package let route: Route
  /// For one agent, from the request to the last byte.
  package let agentTimeout: Duration
  /// Agents read concurrently.
  package let width: Int
  package let logLevel: Settings.LogSeverity
  package let clusterEndpoint: String
  package let httpTimeout: Duration
  package let version: String

  /// - Parameters:
  ///   - environment: the process's environment.
  ///   - cloudWatchFlag: the flag `--cloudwatch`; USE_CLOUDWATCH takes precedence.
  /// - Throws: `SettingError` naming the first variable whose value cannot be used.
  package init(environment: [String: String], cloudWatchFlag: Bool = true) throws(SettingError) {
    var reader = SettingReader(environment: environment)
    try reader.refuseControlCharacters(in: Setting.metricsHelper)
    sendsToCloudWatch = Self.yesNo(.useCloudWatch, &reader, default: cloudWatchFlag)
    servesPrometheus = Self.yesNo(.usePrometheus, &reader)
    interval = .seconds(try reader.strictInt(.metricUpdateInterval))
    clusterID = try Self.clusterID(reader)
    route = try reader.strictWord(.scrapeRoute)
    agentTimeout = .seconds(try reader.strictInt(.scrapeTimeout))
    width = try reader.strictInt(.scrapeWidth)
    logLevel = reader.word(.logLevel)
    clusterEndpoint = reader.text(.clusterEndpoint) ?? ""
    httpTimeout = .seconds(reader.int(.httpTimeout))
    version = reader.textOrDefault(.version)
    warnings = reader.warnings
  }

  /// `yes` and `no` too, in any case, as in cni-metrics-helper of amazon-vpc-cni-k8s.
  private static func yesNo(_ setting: Setting, _ reader: inout SettingReader, default fallback: Bool? = nil) -> Bool {
    switch reader.text(setting)?.lowercased() {
    case "yes": true
    case "no": false
    default: reader.bool(setting, default: fallback)
    }
  }

  /// A bad one would make CloudWatch refuse every call.
  private static func clusterID(_ reader: SettingReader) throws(SettingError) -> String? {
    guard let value = reader.text(.clusterID) else { return nil }
    guard isClusterID(value) else { throw reader.refuse(.clusterID, value) }
    return value
  }

  /// A valid dimension value for CloudWatch: 1 to 1024 characters of ASCII without control characters, not spaces
  /// alone.
  ///
  /// Source: Dimension, CloudWatch API Reference.
  package static func isClusterID(_ text: String) -> Bool {
    (1...1024).contains(text.utf8.count) && text.utf8.allSatisfy { (0x20...0x7e).contains($0) }
      && text.utf8.contains { $0 != 0x20 }
  }
}

extension Setting {
  static let useCloudWatch = Setting(
    "USE_CLOUDWATCH", true, "send the sums to CloudWatch; before the flag --cloudwatch", allowed: yesOrNo)
  static let usePrometheus = Setting(
    "USE_PROMETHEUS", false, "serve the sums to Prometheus on port 61681", allowed: yesOrNo)
  static let metricUpdateInterval = Setting(
    "METRIC_UPDATE_INTERVAL", 30, in: 1...3600,
    "from one reading of all agents to the next; CloudWatch gets two at a time", unit: "s")
  static let clusterID = Setting(
    "AWS_CLUSTER_ID", .text, "", "the dimension CLUSTER_ID; found out where unset",
    allowed: "1 to 1024 printable ASCII characters, not spaces alone")
  static let scrapeRoute = Setting(
    "VPC_CNI_SCRAPE", MetricsHelperSettings.Route.proxy,
    "proxy: agents are read through the API server; direct: at their addresses")
  static let scrapeTimeout = Setting(
    "VPC_CNI_SCRAPE_TIMEOUT", 5, in: 1...60, "an agent that has not answered by then is silent", unit: "s")
  static let scrapeWidth = Setting(
    "VPC_CNI_SCRAPE_WIDTH", 32, in: 1...256, "agents that are read at once")

  private static let yesOrNo = "yes, no, true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)"

  /// Every variable that `MetricsHelperSettings` reads, in the order of the documentation.
  package static let metricsHelper: [Setting] = [
    useCloudWatch, usePrometheus, metricUpdateInterval, clusterID, scrapeRoute, scrapeTimeout, scrapeWidth, logLevel,
    clusterEndpoint, httpTimeout, version,
  ]
}

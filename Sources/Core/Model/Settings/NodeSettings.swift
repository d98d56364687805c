// SPDX-License-Identifier: Apache-2.0

/// The settings of the init container and the entrypoint: their own variables, and all of the agent's, so that an
/// invalid one is reported before anything on the host is changed.
package struct NodeSettings: Sendable, Hashable {
  package let agent: Settings
  /// Warnings about ignored values, including the agent's.
  package let warnings: [SettingWarning]

  package let binaryFolder: String
  package let configurationFolder: String
  package let templatePath: String
  package let corePluginsFolder: String
  package let disablesEarlyDemux: Bool
  /// An absolute path or `stderr`, for the conflist.
  package let pluginLogFile: String
  /// As it was written, for the conflist.
  package let pluginLogLevel: String
  package let usesBandwidthPlugin: Bool
  package let disablesPodIPv6: Bool
  package let hasV4Egress: Bool
  package let egressV4LogFile: String
  package let egressV6LogFile: String

  /// - Parameter environment: the process's environment.
  /// - Throws: `SettingError` naming the first variable whose value cannot be used.
  package init(environment: [String: String]) throws(SettingError) {
    let agent = try Settings(environment: environment)
    var reader = SettingReader(environment: environment)
    try reader.refuseControlCharacters(in: Setting.node)
    try NodeSettings.checkTargets(agent, reader)
    if agent.usesPodENIs {
      // The agent falls back to strict; the node setup refuses instead of guessing.
      let _: Settings.PodSecurityGroupMode = try reader.strictWord(.podSecurityGroupMode)
    }
    binaryFolder = try Settings.absolutePath(.hostBinaries, reader)
    configurationFolder = try Settings.absolutePath(.hostConfiguration, reader)
    templatePath = try Settings.absolutePath(.conflistTemplate, reader)
    corePluginsFolder = try Settings.absolutePath(.corePlugins, reader)
    disablesEarlyDemux = reader.bool(.disableEarlyDemux)
    pluginLogFile = try NodeSettings.logFile(.pluginLogFile, reader)
    pluginLogLevel = NodeSettings.logLevel(&reader)
    usesBandwidthPlugin = reader.bool(.bandwidthPlugin)
    disablesPodIPv6 = reader.bool(.disablePodIPv6)
    hasV4Egress = reader.bool(.enableV4Egress)
    egressV4LogFile = try NodeSettings.logFile(.egressV4LogFile, reader)
    egressV6LogFile = try NodeSettings.logFile(.egressV6LogFile, reader)
    self.agent = agent
    warnings = agent.warnings + reader.warnings
  }

  /// A prefix pool without a warm target would make the first pod of each prefix wait: refused, as amazon-vpc-cni-k8s
  /// refuses it. IPv6 has no warm targets.
  private static func checkTargets(_ agent: Settings, _ reader: SettingReader) throws(SettingError) {
    guard agent.family == .ipv4, agent.usesPrefixes, agent.warmPrefixTarget == 0, agent.warmIPTarget == 0,
      agent.minimumIPTarget == 0
    else { return }
    throw SettingError(
      name: Setting.warmPrefixTarget.name, value: reader.text(.warmPrefixTarget) ?? "",
      allowed: "1 or more with \(Setting.prefixDelegation.name), unless \(Setting.warmIPTarget.name) or "
        + "\(Setting.minimumIPTarget.name) is set")
  }

  /// Standard output carries the plugin's result, so it cannot be a log.
  private static func logFile(_ setting: Setting, _ reader: SettingReader) throws(SettingError) -> String {
    let value = reader.textOrDefault(setting)
    if value.lowercased() == "stderr" { return value }
    guard !LogFileName.isStdout(value) else {
      throw SettingError(name: setting.name, value: value, allowed: "an absolute path or stderr")
    }
    return try Settings.absolutePath(setting, reader)
  }

  private static func logLevel(_ reader: inout SettingReader) -> String {
    let fallback = Setting.pluginLogLevel.fallback
    guard let value = reader.text(.pluginLogLevel) else { return fallback }
    if Settings.LogSeverity(rawValue: value.lowercased()) != nil { return value }
    reader.warn(.pluginLogLevel, value, used: fallback)
    return fallback
  }
}

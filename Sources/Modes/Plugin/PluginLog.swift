// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCObserve

/// The field names of log lines.
enum LogKey {
  static let address = "ip"
  static let cause = "cause"
  static let chain = "chain"
  static let code = "code"
  static let command = "command"
  static let container = "container.id"
  static let count = "count"
  static let duration = "duration.us"
  static let interface = "interface"
  static let netns = "netns"
  static let network = "network"
  static let pod = "pod"
  static let vlan = "vlan.id"
}

/// The plugin's log.
enum PluginLog {
  /// A JSON-lines logger to the configured file, or to standard error without one, at the configured level. The file is
  /// opened with the first line.
  static func make(_ configuration: NetworkConfiguration) -> Logger { make(configuration, label: "aws-cni") }

  /// - Parameter label: the plugin's name in each line.
  static func make(_ configuration: NetworkConfiguration, label: String) -> Logger {
    let file = configuration.pluginLogFile
    let destination = LogDestination(file.isEmpty ? "stderr" : file, default: file, resultOnStdout: true)
    let level = Logger.Level(setting: configuration.pluginLogLevel)
    return .jsonLines(label: label, to: destination, level: level, sparesStdout: true)
  }
}

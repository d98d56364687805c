// SPDX-License-Identifier: Apache-2.0

package import Logging
import VPCModel

/// Where log lines go.
package enum LogDestination: Hashable, Sendable {
  case file(path: String)
  case stdout
  case stderr
  /// `stdout` was requested in a process whose standard output carries its result: nothing is logged.
  case refused

  /// Reads a setting: `stdout` or `stderr` in any case, else a path; empty means `standard`.
  ///
  /// - Parameter resultOnStdout: true for CNI plugins, where `stdout`, by whatever name, gives `.refused`. Source:
  ///   AWS_VPC_K8S_PLUGIN_LOG_FILE of amazon-vpc-cni-k8s.
  package init(_ text: String, default standard: String, resultOnStdout: Bool) {
    if resultOnStdout, LogFileName.isStdout(text) {
      self = .refused
      return
    }
    switch text.lowercased() {
    case "": self = .file(path: standard)
    case "stderr": self = .stderr
    case "stdout": self = .stdout
    default: self = .file(path: text)
    }
  }
}

extension Logger.Level {
  /// Reads a level as amazon-vpc-cni-k8s does: debug, info, warn, error, fatal in any case; anything else is debug.
  package init(setting text: String) {
    switch text.lowercased() {
    case "info": self = .info
    case "warn": self = .warning
    case "error": self = .error
    case "fatal": self = .critical
    default: self = .debug
    }
  }

  /// The name in a log line.
  var lineName: String {
    switch self {
    case .trace, .debug: "debug"
    case .info, .notice: "info"
    case .warning: "warn"
    case .error: "error"
    case .critical: "fatal"
    }
  }
}

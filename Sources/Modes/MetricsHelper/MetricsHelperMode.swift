// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni metrics-helper`: reads flag and settings, runs the helper, stops it on SIGTERM. See also:
// MetricsHelper.swift.

internal import Glibc
internal import Logging
internal import VPCModel
internal import VPCObserve
internal import VPCSystem

/// Sums the metrics of a cluster's agents, for CloudWatch and Prometheus. One instance runs per cluster.
package enum MetricsHelperMode {
  /// Runs until SIGTERM or SIGINT; a second signal ends it at once.
  ///
  /// - Returns: 0 for help, 1 if a setting or the start failed, 64 for a wrong argument; otherwise it exits the process
  ///   itself.
  package static func run(arguments: [String]) -> Int32 {
    let options: HelperOptions
    do {
      options = try HelperOptions(arguments)
    } catch {
      say("\(error.text)")
      return 64
    }
    if options.showsHelp {
      put(HelperOptions.usage, to: STDOUT_FILENO)
      return 0
    }
    // Before any thread starts, so that every thread blocks these signals.
    let signals = SignalQueue()
    let environment = ProcessEnvironment.variables()
    let settings: MetricsHelperSettings
    do {
      settings = try MetricsHelperSettings(environment: environment, cloudWatchFlag: options.cloudWatch)
    } catch {
      say("\(error)")
      return 1
    }
    let logger = Logger.jsonLines(
      label: "metrics-helper", to: .stdout, level: Logger.Level(setting: settings.logLevel.rawValue))
    for warning in settings.warnings { logger.warning("invalid setting", metadata: ["warning": "\(warning)"]) }

    let running = Task {
      let status = await MetricsHelper(settings: settings, environment: environment, logger: logger).run()
      exit(status)
    }
    _ = signals.next()
    running.cancel()
    _ = signals.next()
    return 1
  }

  /// For messages before the log is open.
  private static func say(_ text: String) { put("vpc-cni metrics-helper: \(text)\n", to: STDERR_FILENO) }

  private static func put(_ text: String, to file: Int32) {
    let bytes = Array(text.utf8)
    // With a closed file there is no way to report.
    _ = write(file, bytes, bytes.count)
  }
}

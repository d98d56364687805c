// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCModel
internal import VPCObserve

/// Compresses rotated logs: the agent's own, and the plugins' next to it, whose processes are too short-lived.
struct LogUpkeep: Sendable {
  let logs: [String]
  let logger: Logger
  private let compression = LogCompression()
  /// A listing of one folder each time.
  private static let interval = Duration.seconds(60)
  /// The default of AWS_VPC_K8S_CNI_LOG_FILE.
  private static let standard = "/host/var/log/aws-routed-eni/ipamd.log"
  /// The plugins' logs, by their default names.
  private static let pluginLogs = ["plugin.log", "egress-v4-plugin.log", "egress-v6-plugin.log"]

  init(settings: Settings, logger: Logger) {
    self.logger = logger
    // If the agent logs to standard output, the plugins' logs are still in the default folder.
    var own = LogUpkeep.standard
    if case .file(let path) = LogDestination(settings.logFile, default: own, resultOnStdout: false) { own = path }
    let folder = own.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
    logs = [own] + LogUpkeep.pluginLogs.map { "\(folder)/\($0)" }.filter { $0 != own }
  }

  /// Runs until the task is cancelled. A problem is logged once, until it changes.
  func run() async {
    var told: String?
    while !Task.isCancelled {
      for log in logs {
        let outcome = await compression.compressBackups(of: log)
        if outcome.compressed > 0 {
          logger.info("rotated logs compressed", metadata: ["log": "\(log)", "count": "\(outcome.compressed)"])
        }
        if let problem = outcome.problem, problem != told, !Task.isCancelled {
          told = problem
          logger.warning("cannot compress a rotated log", metadata: ["log": "\(log)", "error": "\(problem)"])
        }
      }
      do {
        try await Task.sleep(for: LogUpkeep.interval, tolerance: .seconds(5))
      } catch {
        return  // the agent stops
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni agent`: reads the settings, runs the agent, stops it on SIGTERM. See also: Agent.swift.

internal import Glibc
internal import Logging
internal import VPCModel
internal import VPCObserve
internal import VPCSystem

/// The node's IPAM agent. It takes no arguments; its settings are environment variables (docs/configuration.md).
package enum AgentMode {
  /// Runs until SIGTERM or SIGINT; a second signal ends it at once.
  ///
  /// - Returns: 1 if a setting or the start failed, 64 for an argument; otherwise it exits the process itself.
  package static func run(arguments: [String]) -> Int32 {
    guard arguments.isEmpty else {
      say("takes no arguments, got \"\(arguments[0])\"; settings are environment variables")
      return 64
    }
    // Before any thread starts, so that every thread blocks these signals.
    let signals = SignalQueue()
    let environment = ProcessEnvironment.variables()
    let settings: Settings
    do {
      settings = try Settings(environment: environment)
    } catch {
      say("\(error)")
      return 1
    }
    let limit = OpenFileLimit.raise(to: DescriptorBudget.wanted)
    guard let descriptors = DescriptorBudget(limit: limit) else {
      say(DescriptorBudget.refusal(limit))
      return 1
    }
    let writer = LineWriter(
      LogDestination(settings.logFile, default: settings.logFile, resultOnStdout: false), fallback: .everyLine)
    let log = try? LogThread(writer)  // without a thread, lines are written directly
    let logger = Logger.jsonLines(
      label: "agent", to: log ?? writer, level: Logger.Level(setting: settings.logLevel.rawValue))
    for warning in settings.warnings { logger.warning("invalid setting", metadata: ["warning": "\(warning)"]) }
    for conflict in settings.conflicts {
      logger.warning("conflicting settings", metadata: ["conflict": "\(conflict)"])
    }

    let running = Task {
      let metrics = AgentMetrics(droppedLogLines: { log?.dropped ?? 0 })
      let agent = Agent(
        settings: settings, environment: environment, descriptors: descriptors, logger: logger, metrics: metrics)
      let status = await agent.run()
      log?.flush(within: flushLimit)
      exit(status)
    }
    _ = signals.next()
    running.cancel()
    _ = signals.next()
    log?.flush(within: flushLimit)
    return 1
  }

  /// How long the exit waits for pending log lines.
  private static let flushLimit = Duration.seconds(1)

  /// For messages before the log is open.
  private static func say(_ text: String) {
    let line = Array("vpc-cni agent: \(text)\n".utf8)
    // With a closed stderr there is no way to report.
    _ = write(STDERR_FILENO, line, line.count)
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni node`, the entrypoint of the aws-node container: installs the plugin, starts the agent as its child, waits
// until it is serving, then writes the conflist, which makes kubelet report the node Ready. See also: AgentWatch (what
// it decides while the agent runs), Conflist (what the list says).

internal import Glibc
internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCObserve
internal import VPCRPC
internal import VPCSystem

/// The node's entrypoint. It takes no arguments; its settings are environment variables (docs/configuration.md).
package enum NodeMode {
  /// Runs until the agent has exited.
  ///
  /// - Returns: the agent's exit status (128 and the number of a signal that ended it); 1 if a setting is refused or
  ///   the plugin cannot be installed; 64 for an argument.
  package static func run(arguments: [String]) -> Int32 {
    let logger = Logger(label: "node") { _ in JSONLineLogHandler(writer: LineWriter(.stdout), level: .info) }
    guard arguments.isEmpty else {
      logger.error("takes no arguments; settings are environment variables", metadata: ["argument": "\(arguments[0])"])
      return 64
    }
    // Before any thread starts, so that every thread blocks these signals.
    let signals = SignalQueue([SIGTERM, SIGINT, SIGCHLD])
    logger.info("Validating env variables ...")
    do {
      let settings = try NodeSettings(environment: ProcessEnvironment.variables())
      return try NodeEntrypoint(settings: settings, signals: signals, logger: logger).run()
    } catch {
      logger.critical("cannot set up the node", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
  }
}

/// One run of the aws-node container.
struct NodeEntrypoint {
  let settings: NodeSettings
  let signals: SignalQueue
  let logger: Logger

  private var conflistPath: String { "\(settings.configurationFolder)/\(Conflist.fileName)" }

  func run() throws -> Int32 {
    for warning in settings.warnings { logger.warning("invalid setting", metadata: ["warning": "\(warning)"]) }
    let conflist = try conflist(try EgressAddress.read(settings, environment: ProcessEnvironment.variables()))
    logger.info("Install CNI binaries..")
    let program = try ProcessEnvironment.program()
    for (name, outcome) in try HostPrograms.install(program, into: settings.binaryFolder) {
      logger.info("CNI plugin installed", metadata: ["name": "\(name)", "outcome": "\(outcome)"])
    }
    logger.info("Starting IPAM daemon in the background ... ")
    let agent = try Companion.start(program, ["aws-k8s-agent"])
    logger.info("Checking for IPAM connectivity ... ")
    return watch(agent, conflist)
  }

  /// With an invalid template the existing conflist stays; without one, the node setup fails.
  private func conflist(_ nodeAddress: IPAddress?) throws -> Conflist? {
    do {
      let made = try Conflist(
        template: try template(), path: settings.templatePath, settings: settings, nodeAddress: nodeAddress)
      for note in made.notes { logger.warning("conflist template warning", metadata: ["note": "\(note)"]) }
      return made
    } catch {
      guard FileInstallation.isThere(conflistPath) else { throw error }
      logger.error(
        "cannot use the conflist template; keeping the conflist on the node",
        metadata: ["error": "\(CauseChain.text(error))", "kept": "\(conflistPath)"])
      return nil
    }
  }

  /// The operator's template; nil if there is none.
  private func template() throws(FileError) -> [UInt8]? {
    guard FileInstallation.isThere(settings.templatePath) else { return nil }
    return try BoundedFile.read(settings.templatePath, limit: Conflist.sizeLimit)
  }

  private func watch(_ agent: Companion, _ conflist: Conflist?) -> Int32 {
    let began = ContinuousClock.now
    var watch = AgentWatch()
    var events: [AgentWatch.Event] = []
    while true {
      let now = began.duration(to: .now)
      if events.isEmpty {
        let signal: Int32? = if let look = watch.nextLook { signals.next(within: look - now) } else { signals.next() }
        // A child may have exited whatever woke this thread: several SIGCHLD count as one.
        if let ending = agent.reap() { events.append(.agentEnded(ending)) }
        if signal == SIGTERM || signal == SIGINT { events.append(.terminationAsked) }
        events.append(.clock)
      }
      for action in watch.handle(events.removeFirst(), at: began.duration(to: .now)) {
        switch action {
        case .probe: events.append(.probed(isServing: serves()))
        case .placeConflist: events.append(.conflistPlaced(place(conflist)))
        case .say(let text): logger.info("\(text)")
        case .terminateAgent: agent.signal(SIGTERM)
        case .killAgent: agent.signal(SIGKILL)
        case .exit(let status):
          logger.info("agent exited", metadata: ["status": "\(status)"])
          return status
        }
      }
    }
  }

  private func serves() -> Bool {
    let health = HealthClient(target: CNIBackendClient.defaultTarget)
    // The entrypoint treats no connection, no answer and not serving alike: it asks again.
    let status = try? health.check(service: "", timeout: .seconds(1), connectTimeout: .seconds(1))
    return status == .serving
  }

  /// Writes the list by one rename, unless it is already there.
  private func place(_ conflist: Conflist?) -> Bool {
    guard let conflist else { return true }
    let content = Array(conflist.text.utf8)
    AtomicFile.removeLeftovers(of: conflistPath)
    do {
      let standing = try? BoundedFile.read(conflistPath, limit: Conflist.sizeLimit)
      if standing != content { try AtomicFile.write(content, to: conflistPath) }
      let before = try FileInstallation.files(in: settings.configurationFolder).filter(Conflist.isTakenBefore)
      if !before.isEmpty {
        logger.warning(
          "another CNI configuration sorts before 10-aws.conflist; the runtime uses the first file",
          metadata: ["files": .array(before.map { .string("\(settings.configurationFolder)/\($0)") })])
      }
      return true
    } catch {
      logger.error("cannot write the conflist; will retry", metadata: ["error": "\(CauseChain.text(error))"])
      return false
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The agent's lifecycle. Each phase of the start returns what the next one needs:
//
//   identified (Agent+Identify)   the API server, in parallel with all that follows       see Kube/ClusterLink.swift
//                                 IMDS: instance, primary ENI; limits of the type         retried until IMDS answers
//   prepared   (Agent+Prepare)    EC2: all attached ENIs, one call; subnets in parallel   IMDS only if EC2 does not answer
//                                 kernel: rules 512 and 1024, the source map, SNAT
//   restored   (Agent+Restore)    checkpoint compared with the kernel: which pods are alive
//                                 the pool: sets up every ENI, grows
//   serving    (Agent+Serve)      the socket; from here on the probes say SERVING
//                                 metrics, introspection, background work: nothing waits for them
//   stop                          SIGTERM: no more growth, requests in flight are answered, at most 5 s
//
// See also: AddressPool (what happens to an ADD), NodeNetwork (the kernel), NodeENIs (EC2).

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCRPC

/// One run of the agent on one node.
struct Agent {
  /// The socket path that the plugin uses.
  static let socketPath = "/var/run/aws-node/ipamd.sock"
  /// Limit for the whole shutdown, within the pod's termination grace period of 10 s.
  private static let stopLimit = Duration.seconds(4)
  /// How long the start waits for a previous agent to exit: one that is stopping, or one that was killed and whose
  /// socket the kernel has not closed yet.
  private static let predecessorLimit = Duration.seconds(10)

  let settings: Settings
  let environment: [String: String]
  let descriptors: DescriptorBudget
  let logger: Logger
  let metrics: AgentMetrics
  let calls = EC2Ledger()
  let firewall = FirewallLedger()
  let repairs = RepairRecord()

  /// Starts, serves until the task is cancelled, and stops in order.
  ///
  /// - Returns: the exit status.
  func run() async -> Int32 {
    do {
      let serving = try await start()
      await Agent.untilCancelled()
      // The shutdown must complete although this task is cancelled.
      await Task { await stop(serving) }.value
      return 0
    } catch is CancellationError {
      return 0
    } catch {
      logger.critical("agent failed; exiting", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
  }

  private func start() async throws -> Serving {
    let began = ContinuousClock.now
    try settings.checkFamily()
    // Before anything is changed: two agents on one node would destroy each other's state.
    try await RPCServer.awaitFree(path: Agent.socketPath, within: Agent.predecessorLimit) { [logger] in
      logger.notice(
        "another agent still listens on the socket; waiting for it to exit", metadata: ["socket": "\(Agent.socketPath)"]
      )
    }
    // Before the first connection, and until the permanent rules are in place.
    let translates = settings.family == .ipv4
    if translates { trackConnections(ConnectionTracking.begin) }
    defer { if translates { trackConnections(ConnectionTracking.end) } }
    metrics.initializationBegan()
    let node = try await identify()
    let prepared = try await prepare(node)
    let restored = try await restore(prepared, on: node)
    metrics.initializationEnded(isSuccess: true, after: began.duration(to: .now))
    return try await serve(restored, on: node, since: began)
  }

  /// Without it, a connection opened before the SNAT rules breaks once they are in place, and must be reopened.
  private func trackConnections(_ change: () throws -> Void) {
    do {
      try change()
    } catch {
      logger.debug("cannot enable connection tracking during startup", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  private func stop(_ serving: Serving) async {
    logger.notice("stopping")
    serving.health.set(.notServing)
    for task in serving.tasks { task.cancel() }
    await serving.pool.shutDown(within: Agent.stopLimit)
    // It runs on the server's event loop, so it stops before the loop.
    serving.observation.cancel()
    await serving.observation.value
    await serving.server.shutdown(within: .seconds(1))
    logger.notice("stopped")
  }

  private static func untilCancelled() async {
    let (nothing, _) = AsyncStream<Never>.makeStream()
    for await _ in nothing {}
  }
}

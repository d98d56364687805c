// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Removes the host side of ended pods after DEL is answered: deleting a veth takes the kernel 8 to 20 ms. Has its own
/// thread, so that nothing else waits for it (docs/decisions/0007).
actor HostCleanup {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let socket: NetlinkSocket
  /// The netlink port that kernel notifications name for changes made here.
  nonisolated let port: UInt32
  private let logger: Logger

  init(logger: Logger) throws {
    executor = try ThreadExecutor(name: "cleanup")
    let socket = try NetlinkSocket()
    self.socket = socket
    port = socket.port
    self.logger = logger
  }

  /// Removes route, per-pod rules and veth of one pod. It is idempotent and does not touch a newer pod.
  func remove(_ remains: HostRemains) {
    do {
      let outcome = try remains.remove(on: socket)
      // The table is unknown for pods that ended while no agent was running: their rules are found by address.
      if remains.eniTable == nil, outcome == .removed || outcome == .alreadyGone {
        try PodRules.remove(pod: remains.address, on: socket)
      }
      logger.debug("pod host interface cleanup done", metadata: ["ip": "\(remains.address)", "outcome": "\(outcome)"])
    } catch {
      // The veth goes with the namespace; the next start looks for leftovers.
      logger.warning(
        "cannot remove a pod's host interface; it will go with the pod's network namespace",
        metadata: ["ip": "\(remains.address)", "error": "\(CauseChain.text(error))"])
    }
  }
}

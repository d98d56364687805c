// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// Removes the host's side of pods that have ended, behind DEL's answer: deleting a veth takes the kernel 8 to 20 ms.
/// A thread of its own, so that nothing else of the node waits for it (docs/decisions/0007).
actor HostCleanup {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let socket: NetlinkSocket
  /// By which the kernel's notices name what is done here.
  nonisolated let port: UInt32
  private let logger: Logger

  init(logger: Logger) throws {
    executor = try ThreadExecutor(name: "cleanup")
    let socket = try NetlinkSocket()
    self.socket = socket
    port = socket.port
    self.logger = logger
  }

  /// Removes route, per-pod rules and veth of one pod. Repeating it does no harm, and what a newer pod has is not touched.
  func remove(_ remains: HostRemains) {
    do {
      let outcome = try remains.remove(on: socket)
      // Of a pod that ended while no agent ran the table is not known: its rules are found by its address.
      if remains.eniTable == nil, outcome == .removed || outcome == .alreadyGone {
        try PodRules.remove(pod: remains.address, on: socket)
      }
      logger.debug("pod host interface cleanup done", metadata: ["ip": "\(remains.address)", "outcome": "\(outcome)"])
    } catch {
      // The namespace's end takes the veth along; the next start looks for what is left.
      logger.warning(
        "cannot remove a pod's host interface; it will go with the pod's network namespace",
        metadata: ["ip": "\(remains.address)", "error": "\(CauseChain.text(error))"])
    }
  }
}

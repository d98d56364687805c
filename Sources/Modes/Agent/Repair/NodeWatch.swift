// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux

/// Waits for changes of the node's network on a thread of its own. To be made in the node's network namespace, before
/// the node is set up: what it has not seen happen it cannot tell of.
actor NodeWatch {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let monitor: NodeMonitor
  private let interrupt: @Sendable () -> Void

  init() throws {
    executor = try ThreadExecutor(name: "watch")
    monitor = try NodeMonitor()
    interrupt = monitor.interrupt
  }

  /// Returns when something has changed, or the task was cancelled.
  func changed() async throws {
    try await withTaskCancellationHandler {
      try monitor.wait()
    } onCancel: {
      interrupt()
    }
  }

  func take(leavingOut own: NodeMonitor.OwnPorts) throws -> NodeChanges { try monitor.take(leavingOut: own) }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux

/// Waits for changes of the node's network on a thread of its own. To be made in the node's network namespace, and opened
/// before the node is set up: what it has not seen happen it cannot tell of.
actor NodeWatch {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  /// Nil until it could be opened.
  private(set) var monitor: NodeMonitor?

  init() throws { executor = try ThreadExecutor(name: "watch") }

  /// Begins to listen, or begins anew after a failure. What changed before, or since the failure, is not told.
  func open() throws {
    if let monitor { try monitor.reopen() } else { monitor = try NodeMonitor() }
  }

  /// Returns when something has changed, or the task was cancelled.
  func changed() async throws {
    guard let monitor else { throw NodeWatchError.notOpen }
    let interrupt = monitor.interrupt
    try await withTaskCancellationHandler {
      try monitor.wait()
    } onCancel: {
      interrupt()
    }
  }

  /// - Throws: what the kernel's socket failed with; `open` makes a new one.
  func take(leavingOut own: NodeMonitor.OwnPorts) throws -> NodeChanges {
    guard let monitor else { throw NodeWatchError.notOpen }
    return try monitor.take(leavingOut: own)
  }
}

/// Why a watch does not tell of changes.
enum NodeWatchError: Error, CustomStringConvertible {
  case notOpen

  var description: String { "cannot open the kernel notification sockets" }
}

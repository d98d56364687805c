// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Waits for changes of the node network on its own thread. Create it in the node's network namespace and open it
/// before the node is set up: earlier changes are not reported.
actor NodeWatch {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let families: [AddressFamily]
  /// Nil until it could be opened.
  private(set) var monitor: NodeMonitor?

  /// - Parameter families: of pods' addresses.
  init(_ families: [AddressFamily]) throws {
    executor = try ThreadExecutor(name: "watch")
    self.families = families
  }

  /// Starts listening, or restarts after a failure. Changes before that, or since the failure, are not reported.
  func open() throws {
    if let monitor { try monitor.reopen() } else { monitor = try NodeMonitor(families) }
  }

  /// Returns when something has changed, or the task is cancelled.
  func changed() async throws {
    guard let monitor else { throw NodeWatchError.notOpen }
    let interrupt = monitor.interrupt
    try await withTaskCancellationHandler {
      try wait(for: monitor)
    } onCancel: {
      interrupt()
    }
  }

  /// A method, so that the closure above captures `self`: without it the closure is not isolated, and blocks a thread
  /// of the runtime's pool, on a node with one processor the only one.
  private func wait(for monitor: NodeMonitor) throws { try monitor.wait() }

  /// - Throws: the socket's error; `open` creates a new socket.
  func take(leavingOut own: NodeMonitor.OwnPorts) throws -> NodeChanges {
    guard let monitor else { throw NodeWatchError.notOpen }
    return try monitor.take(leavingOut: own)
  }
}

/// Why a watch reports no changes.
enum NodeWatchError: Error, CustomStringConvertible {
  case notOpen

  var description: String { "cannot open the kernel notification sockets" }
}

// SPDX-License-Identifier: Apache-2.0

import CNghttp2
import NIOCore

/// What a server grants its callers.
package struct RPCServerLimits: Sendable {
  /// Largest request message, bytes.
  package var requestBytes = 1_024 * 1_024
  /// All requests being received together, bytes.
  package var bufferedBytes = 8 * 1_024 * 1_024
  /// A request must be whole within this.
  package var requestTimeout: Duration = .seconds(10)
  /// The longest that a handler runs; callers without a deadline get this one. Kubelet gives up after 4 minutes.
  package var callTimeout: Duration = .seconds(240)
  /// Open connections. Beyond it the one that is idle for the longest is closed, or the new one when none is idle.
  package var connections = 512
  /// A connection without a call is closed after this.
  package var idleTimeout: Duration = .seconds(300)
  /// Streams at once on one connection.
  package var streamsPerConnection = 100
  /// Calls at once on all connections.
  package var concurrentCalls = 1_024

  package init() {}
}

/// What all connections of one server share. It lives on the server's event loop and is touched nowhere else.
final class ServerState {
  let methods: RPCMethodTable
  let limits: RPCServerLimits
  /// Where handlers run.
  let executor: EventLoopExecutor
  var calls = 0
  var buffered = 0
  private var connections: [ObjectIdentifier: ServerConnection] = [:]
  /// The most connections at once since memory was last given back.
  private var peak = 0
  private var isClosing = false
  private var allClosed: EventLoopPromise<Void>?

  init(methods: RPCMethodTable, limits: RPCServerLimits, on loop: any EventLoop) {
    self.methods = methods
    self.limits = limits
    executor = EventLoopExecutor(loop)
  }

  /// False when the connection must be closed at once.
  func admit(_ connection: ServerConnection) -> Bool {
    if isClosing { return false }
    if connections.count >= limits.connections {
      guard let oldest = idle.min(by: { $0.idleSince < $1.idleSince }) else { return false }
      oldest.close()
    }
    connections[ObjectIdentifier(connection)] = connection
    peak = max(peak, connections.count)
    return true
  }

  func remove(_ connection: ServerConnection) {
    connections[ObjectIdentifier(connection)] = nil
    if isClosing, connections.isEmpty { allClosed?.succeed() }
  }

  /// Closes the connections that have been idle for too long, and gives memory back after a burst.
  func sweep() {
    let limit = NIODeadline.now() - TimeAmount(limits.idleTimeout)
    for connection in idle where connection.idleSince < limit { connection.close() }
    // A connection takes about 38 KB, which the allocator keeps: after a burst its pages go back to the system.
    if peak >= 32, connections.count * 4 <= peak {
      peak = connections.count
      malloc_trim(0)
    }
  }

  /// Takes no more calls, and closes every connection once its calls are answered.
  ///
  /// - Parameter done: succeeds when the last one is closed.
  func finish(_ done: EventLoopPromise<Void>) {
    isClosing = true
    allClosed = done
    if connections.isEmpty { done.succeed() }
    for connection in Array(connections.values) { connection.finish() }
  }

  /// Closes every connection now.
  func closeAll() {
    for connection in Array(connections.values) { connection.close() }
  }

  private var idle: some Sequence<ServerConnection> { connections.values.lazy.filter(\.isIdle) }
}

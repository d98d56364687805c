// SPDX-License-Identifier: Apache-2.0

import CNghttp2
import NIOCore

/// A server's limits for its callers.
package struct RPCServerLimits: Sendable {
  /// Largest request message, bytes.
  package var requestBytes = 1_024 * 1_024
  /// All requests being received together, bytes.
  package var bufferedBytes = 8 * 1_024 * 1_024
  /// What one connection may send, bytes: so many at once, and so many a second from then on.
  package var burstBytes = 16 * 1_024 * 1_024
  package var bytesPerSecond = 1_024 * 1_024
  /// Time limit for receiving a request.
  package var requestTimeout: Duration = .seconds(10)
  /// The maximum time of a handler; callers without a deadline get this one. Kubelet gives up after 4 minutes.
  package var callTimeout: Duration = .seconds(240)
  /// Open connections. A new one beyond this replaces the connection that has waited longest for its peer. A connection
  /// with a call in progress is never replaced.
  package var connections = 512
  /// A peer must read an answer within this, or its connection is closed. Otherwise a peer with a zero flow-control
  /// window, or one that does not read, would hold its connection forever.
  package var answerTimeout: Duration = .seconds(10)
  /// A request stream ends if the next request does not arrive within this.
  package var pauseTimeout: Duration = .seconds(60)
  /// A connection without a call is closed after this.
  package var idleTimeout: Duration = .seconds(300)
  /// Streams at once on one connection.
  package var streamsPerConnection = 100
  /// Calls at once on all connections.
  package var concurrentCalls = 1_024
  /// Streams of many requests or answers at once on all connections.
  package var openStreams = 64

  package init() {}
}

/// State shared by all connections of one server. It is used only on the server's event loop.
final class ServerState {
  let methods: RPCMethodTable
  let limits: RPCServerLimits
  /// Where handlers run.
  let executor: EventLoopExecutor
  var calls = 0
  var openStreams = 0
  var buffered = 0
  private var connections: [ObjectIdentifier: ServerConnection] = [:]
  /// The peak number of connections since memory was last released.
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
      guard giveWay() else { return false }
    }
    connections[ObjectIdentifier(connection)] = connection
    peak = max(peak, connections.count)
    return true
  }

  func remove(_ connection: ServerConnection) {
    connections[ObjectIdentifier(connection)] = nil
    if isClosing, connections.isEmpty { allClosed?.succeed() }
  }

  /// Closes the connection that has waited for its peer for the longest.
  ///
  /// - Returns: false if every connection has a call in progress.
  @discardableResult
  func giveWay() -> Bool {
    let waiting = connections.values.lazy.filter { !$0.isBusy }
    guard let oldest = waiting.min(by: { $0.lastProgress < $1.lastProgress }) else { return false }
    oldest.close()
    return true
  }

  /// Closes connections that have been idle for too long, and releases memory after a burst.
  func sweep() {
    let limit = NIODeadline.now() - TimeAmount(limits.idleTimeout)
    for connection in connections.values.filter(\.isIdle) where connection.lastProgress < limit { connection.close() }
    // A connection takes about 38 KB, which the allocator keeps: after a burst its pages are returned to the system.
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
}

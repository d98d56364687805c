// SPDX-License-Identifier: Apache-2.0

import Glibc
package import NIOCore
import NIOHPACK
import NIOHTTP2
import NIOPosix
import VPCModel

/// A gRPC server on a unix socket, on one event loop thread.
///
/// Read next: `ListeningSocket` (the file), `ServerConnection` and `CallHandler` (what happens on the event loop),
/// `RPCMethodTable` (what a handler is).
package final class RPCServer: Sendable {
  /// The socket's file.
  package let path: String
  /// The thread that it runs on, for other servers of the process to share.
  package let group: any EventLoopGroup

  private let ownsGroup: Bool
  private let socket: ListeningSocket
  private let channel: any Channel
  private let state: NIOLoopBoundBox<ServerState>
  private let sweeper: RepeatedTask

  private init(
    path: String, group: any EventLoopGroup, ownsGroup: Bool, socket: ListeningSocket, channel: any Channel,
    state: NIOLoopBoundBox<ServerState>, sweeper: RepeatedTask
  ) {
    self.path = path
    self.group = group
    self.ownsGroup = ownsGroup
    self.socket = socket
    self.channel = channel
    self.state = state
    self.sweeper = sweeper
  }

  /// Listens and serves. The folder is made with mode 0755, a stale socket replaced, the new one has mode 0660.
  ///
  /// - Parameter group: to run on (one of its threads); nil makes a thread that ends with the server.
  /// - Throws: `ListenError` when the path is taken or cannot be made.
  package static func start(
    path: String, methods: RPCMethodTable, limits: RPCServerLimits = RPCServerLimits(),
    on group: (any EventLoopGroup)? = nil
  ) async throws -> RPCServer {
    let socket = try ListeningSocket(path: path, backlog: backlog)
    let running = group ?? MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = running.any()
    let state = NIOLoopBoundBox.makeBoxSendingValue(
      ServerState(methods: methods, limits: limits, on: loop), as: ServerState.self, eventLoop: loop)
    do {
      let channel = try await ServerBootstrap(group: loop)
        .serverChannelInitializer { server in
          server.eventLoop.makeCompletedFuture {
            try server.pipeline.syncOperations.addHandler(AcceptFailures(server: state.value))
          }
        }
        // Few at a time: a replaced connection closes before many new ones have taken a descriptor.
        .serverChannelOption(.maxMessagesPerRead, value: 4)
        .childChannelInitializer { connection in
          connection.eventLoop.makeCompletedFuture { try configure(connection, state.value) }
        }
        .childChannelOption(.recvAllocator, value: receiveAllocator)
        .withBoundSocket(socket.descriptor).get()
      socket.setBacklog(backlog)
      let sweeper = loop.scheduleRepeatedTask(initialDelay: .seconds(10), delay: .seconds(10)) { _ in
        state.value.sweep()
      }
      return RPCServer(
        path: path, group: running, ownsGroup: group == nil, socket: socket, channel: channel, state: state,
        sweeper: sweeper)
    } catch {
      socket.unlinkFile(path: path)
      if group == nil { try? await running.shutdownGracefully() }  // the earlier error is reported
      throw error
    }
  }

  /// Ensures that no server is alive at the path, and waits for an existing one to exit; removes a stale socket.
  ///
  /// - Parameter isTaken: called once if there is a server to wait for.
  /// - Throws: `ListenError` when a server is still alive there after `limit`, or the path is no socket;
  ///   `CancellationError`.
  package static func awaitFree(path: String, within limit: Duration, isTaken: () -> Void) async throws {
    let deadline = ContinuousClock.now.advanced(by: limit)
    var isTold = false
    while true {
      do throws(ListenError) {
        return try ListeningSocket.checkFree(path: path)
      } catch {
        guard error.code == .taken, ContinuousClock.now < deadline else { throw error }
      }
      if !isTold { isTaken() }
      isTold = true
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// Accepts no new connections, sends GOAWAY on open ones, lets calls finish, and removes the socket's file.
  ///
  /// - Parameter limit: after this, connections are closed in any case, and handlers' tasks are cancelled.
  package func shutdown(within limit: Duration = .seconds(5)) async {
    sweeper.cancel()
    socket.unlinkFile(path: path)
    try? await channel.close()  // may be closed already
    let loop = channel.eventLoop
    let done = loop.makePromise(of: Void.self)
    let state = state
    loop.execute { state.value.finish(done) }
    let timeout = loop.scheduleTask(in: TimeAmount(limit)) { state.value.closeAll() }
    try? await done.futureResult.get()  // never fails
    timeout.cancel()
    if ownsGroup { try? await group.shutdownGracefully() }  // nothing is left that could fail
  }

  /// Connections that wait to be accepted; further callers wait in connect.
  private static let backlog: Int32 = 1_024

  private static let receiveAllocator =
    AdaptiveRecvByteBufferAllocator(minimum: 512, initial: 1_024, maximum: 16_384)

  /// Prepares an accepted connection.
  static func configure(_ connection: any Channel, _ state: ServerState) throws {
    var settings = NIOHTTP2Handler.ConnectionConfiguration()
    settings.initialSettings = [
      HTTP2Setting(parameter: .maxConcurrentStreams, value: state.limits.streamsPerConnection),
      HTTP2Setting(parameter: .maxHeaderListSize, value: 16 * 1_024),
    ]
    settings.maximumBufferedControlFrames = 1_000
    let shared = NIOLoopBound(state, eventLoop: connection.eventLoop)
    let handler = ServerConnection(server: state)
    let bound = NIOLoopBound(handler, eventLoop: connection.eventLoop)
    // Answered at once, on this event loop.
    (connection as? any SocketOptionProvider)?
      .unsafeGetSocketOption(level: .socket, name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)).whenSuccess {
        (credentials: PeerCredentials) in
        bound.value.peer = RPCPeer(processID: credentials.processID, userID: credentials.userID)
      }
    let pipeline = connection.pipeline.syncOperations
    let counter = StreamCounter(connection: bound)
    // First: a peer that does not read is not read from either, so that its answers do not accumulate.
    try pipeline.addHandler(BackPressureHandler())
    try pipeline.addHandler(SendRate(state.limits))
    _ = try pipeline.configureHTTP2Pipeline(
      mode: .server, connectionConfiguration: settings, streamConfiguration: .init(), streamDelegate: counter
    ) { stream in
      stream.eventLoop.makeCompletedFuture {
        try stream.pipeline.syncOperations.addHandler(CallHandler(server: shared.value, connection: bound.value))
      }
    }
    try pipeline.addHandler(handler)
  }
}

/// Closes a connection whose peer sends more than any plugin, probe or tool does: PING and SETTINGS frames cost no place
/// and no memory as long as their answers are read, but they take the processor from pods' requests.
private final class SendRate: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  typealias InboundOut = ByteBuffer

  private let burst: Int64
  private let perSecond: Int64
  private var left: Int64
  private var at = NIODeadline.now()

  init(_ limits: RPCServerLimits) {
    burst = Int64(limits.burstBytes)
    perSecond = Int64(limits.bytesPerSecond)
    left = burst
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let now = NIODeadline.now()
    // The burst is earned within a minute; a longer time would only overflow.
    let earned = min((now - at).nanoseconds / 1_000, 60_000_000) * perSecond / 1_000_000
    at = now
    left = min(burst, left + earned) - Int64(unwrapInboundIn(data).readableBytes)
    guard left >= 0 else { return context.close(promise: nil) }
    context.fireChannelRead(data)
  }
}

/// If a connection cannot be accepted for lack of descriptors, a connection waiting for its peer is closed. The agent
/// shares its descriptors out so that this does not happen (`DescriptorBudget`).
private final class AcceptFailures: ChannelInboundHandler {
  typealias InboundIn = any Channel

  private let server: ServerState

  init(server: ServerState) { self.server = server }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    if let error = error as? IOError, error.errnoCode == EMFILE || error.errnoCode == ENFILE { server.giveWay() }
    // NIO's handler after this one waits a second before it accepts again.
    context.fireErrorCaught(error)
  }
}

/// The kernel's `struct ucred`, which Glibc's module leaves out. Source: unix(7), SO_PEERCRED.
private struct PeerCredentials {
  var processID: Int32 = 0
  var userID: UInt32 = 0
  var groupID: UInt32 = 0
}

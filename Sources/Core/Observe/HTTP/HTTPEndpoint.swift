// SPDX-License-Identifier: Apache-2.0

import Glibc
package import NIOCore
import NIOHTTP1
import NIOPosix
package import VPCModel
import VPCSystem

/// An answer of an endpoint.
package struct HTTPAnswer: Sendable {
  /// 200…599
  package var status: Int
  package var contentType: String
  package var body: [UInt8]

  package init(status: Int = 200, contentType: String = "application/json", body: [UInt8]) {
    self.status = status
    self.contentType = contentType
    self.body = body
  }

  /// Metrics in Prometheus's text format.
  package init(metrics text: String) {
    self.init(contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(text.utf8))
  }
}

/// A small HTTP/1.1 server for introspection and metrics: GET and HEAD, no request bodies, one event loop thread.
package final class HTTPEndpoint: Sendable {
  /// Answers a path (without its query). Runs in a task of its own; 500 when it throws.
  package typealias Handler = @Sendable (_ path: String) async throws -> HTTPAnswer

  package struct Limits: Sendable {
    /// Open connections. A new one beyond this replaces the connection that has waited longest for its peer.
    package var connections = 64
    /// For receiving a request, computing the answer, and sending it. Source: the timeouts of amazon-vpc-cni-k8s.
    package var timeout: Duration = .seconds(5)

    package init() {}
  }

  private let channel: any Channel
  private let group: any EventLoopGroup
  private let ownsGroup: Bool
  private let connections: NIOLoopBoundBox<HTTPConnections>
  /// Of a unix socket.
  private let path: String?

  private init(
    channel: any Channel, path: String?, group: any EventLoopGroup, ownsGroup: Bool,
    connections: NIOLoopBoundBox<HTTPConnections>
  ) {
    self.channel = channel
    self.path = path
    self.group = group
    self.ownsGroup = ownsGroup
    self.connections = connections
  }

  /// The listening port, chosen by the system if 0 was requested; 0 for a unix socket.
  package var port: Int { channel.localAddress?.port ?? 0 }

  /// Listens and serves.
  ///
  /// - Parameters:
  ///   - address: a stale unix socket is replaced; the new one has mode 0660.
  ///   - group: to run on (one of its threads); nil creates a thread that ends with the server.
  ///   - handler: for every path; it answers unknown ones too.
  /// - Throws: the system's error if the address is taken or not local.
  package static func start(
    at address: ListenAddress, limits: Limits = Limits(), on group: (any EventLoopGroup)? = nil,
    handler: @escaping Handler
  ) async throws -> HTTPEndpoint {
    let running = group ?? MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let loop = running.any()
    let connections = NIOLoopBoundBox.makeBoxSendingValue(
      HTTPConnections(limits: limits, handler: handler), as: HTTPConnections.self, eventLoop: loop)
    do {
      let channel = try await bind(address, bootstrap(loop, connections))
      var path: String?
      if case .unix(let file) = address { path = file }
      return HTTPEndpoint(
        channel: channel, path: path, group: running, ownsGroup: group == nil, connections: connections)
    } catch {
      if group == nil { try? await running.shutdownGracefully() }  // the earlier error is reported
      throw error
    }
  }

  private static func bootstrap(
    _ loop: any EventLoop, _ connections: NIOLoopBoundBox<HTTPConnections>
  ) -> ServerBootstrap {
    ServerBootstrap(group: loop)
      .serverChannelOption(.backlog, value: 64)
      .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
      // Few at a time: a replaced connection closes before many new ones have taken a descriptor.
      .serverChannelOption(.maxMessagesPerRead, value: 4)
      .childChannelInitializer { connection in
        connection.eventLoop.makeCompletedFuture {
          let pipeline = connection.pipeline.syncOperations
          // No pipelining handler: a connection carries one request, then it is closed.
          try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: false, withErrorHandling: true)
          try pipeline.addHandler(HTTPConnection(connections: connections.value))
        }
      }
  }

  private static func bind(_ address: ListenAddress, _ bootstrap: ServerBootstrap) async throws -> any Channel {
    switch address {
    case .tcp(let host?, let port): return try await bootstrap.bind(host: "\(host)", port: port).get()
    case .tcp(nil, let port):
      do {
        // Takes IPv4 too.
        return try await bootstrap.bind(host: "::", port: port).get()
      } catch let error as IOError where error.errnoCode == EAFNOSUPPORT || error.errnoCode == EADDRNOTAVAIL {
        // A node without IPv6.
        return try await bootstrap.bind(host: "0.0.0.0", port: port).get()
      }
    case .unix(let path):
      SocketFile.removeStale(path)
      let channel = try await bootstrap.bind(unixDomainSocketPath: path).get()
      chmod(path, 0o660)
      return channel
    }
  }

  /// Returns when the listener has closed, and closes it when the task is cancelled.
  package func untilClosed() async {
    let (channel, path) = (channel, path)
    await withTaskCancellationHandler {
      try? await channel.closeFuture.get()  // how it ended makes no difference
    } onCancel: {
      if let path, channel.isActive { unlink(path) }
      channel.close(promise: nil)
    }
  }

  /// Closes the listener and every connection.
  package func shutdown() async {
    if let path, channel.isActive { unlink(path) }
    try? await channel.close()  // may be closed already
    let connections = connections
    try? await channel.eventLoop.submit { connections.value.closeAll() }.get()  // never fails
    if ownsGroup { try? await group.shutdownGracefully() }  // nothing is left that could fail
  }
}

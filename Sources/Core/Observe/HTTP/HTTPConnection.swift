// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP1
import VPCModel

/// State shared by the connections of one endpoint; used on its event loop.
final class HTTPConnections {
  let limits: HTTPEndpoint.Limits
  let handler: HTTPEndpoint.Handler
  private var open: [ObjectIdentifier: HTTPConnection] = [:]

  init(limits: HTTPEndpoint.Limits, handler: @escaping HTTPEndpoint.Handler) {
    self.limits = limits
    self.handler = handler
  }

  /// Adds a connection. If there are too many, it replaces the one that has waited longest for its peer.
  ///
  /// - Returns: false if every other one has a request in progress.
  func admit(_ connection: HTTPConnection) -> Bool {
    if open.count >= limits.connections {
      guard giveWay() else { return false }
    }
    open[ObjectIdentifier(connection)] = connection
    return true
  }

  /// Closes the connection that has waited for its peer for the longest, if there is one.
  @discardableResult
  func giveWay() -> Bool {
    let waiting = open.values.lazy.filter { !$0.isBusy }
    guard let oldest = waiting.min(by: { $0.began < $1.began }) else { return false }
    oldest.close()
    return true
  }

  func remove(_ connection: HTTPConnection) { open[ObjectIdentifier(connection)] = nil }

  func closeAll() {
    for connection in Array(open.values) { connection.close() }
  }
}

/// One connection: one request, one answer, then it is closed. A timer bounds its whole life.
final class HTTPConnection: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  let began = NIODeadline.now()
  /// Its request is complete and its answer is being computed. Otherwise it waits for the peer.
  var isBusy: Bool { task != nil && !isAnswered }

  private let connections: HTTPConnections
  private var context: ChannelHandlerContext?
  private var timer: Scheduled<Void>?
  private var head: HTTPRequestHead?
  private var task: Task<Void, Never>?
  private var isAnswered = false

  init(connections: HTTPConnections) { self.connections = connections }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelActive(context: ChannelHandlerContext) {
    guard connections.admit(self) else { return context.close(promise: nil) }
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: .nanoseconds(connections.limits.timeout.saturatedNanoseconds)) {
      me.value.close()
    }
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    timer?.cancel()
    task?.cancel()
    connections.remove(self)
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head):
      // A second request on the connection is not read: the answer says that it closes.
      if self.head == nil { self.head = head }
    case .body:
      break
    case .end:
      guard task == nil, !isAnswered, let head else { return }
      guard head.method == .GET || head.method == .HEAD else {
        return answer(HTTPAnswer(status: 405, contentType: "text/plain", body: []), context)
      }
      start(String(head.uri.prefix { $0 != "?" }.prefix(1_024)), context)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { close() }

  func close() { context?.close(promise: nil) }

  private func start(_ path: String, _ context: ChannelHandlerContext) {
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    let finish: @Sendable (HTTPAnswer) -> Void = { answer in
      loop.execute {
        if let context = me.value.context { me.value.answer(answer, context) }
      }
    }
    task = Self.run(connections.handler, path, finish: finish)
  }

  private static func run(
    _ handler: @escaping HTTPEndpoint.Handler, _ path: String, finish: @escaping @Sendable (HTTPAnswer) -> Void
  ) -> Task<Void, Never> {
    Task {
      do {
        finish(try await handler(path))
      } catch {
        // Its text may contain internal details.
        finish(HTTPAnswer(status: 500, contentType: "text/plain", body: Array("internal error\n".utf8)))
      }
    }
  }

  private func answer(_ answer: HTTPAnswer, _ context: ChannelHandlerContext) {
    guard !isAnswered, let request = head else { return }
    isAnswered = true
    var head = HTTPResponseHead(version: .http1_1, status: HTTPResponseStatus(statusCode: answer.status))
    head.headers.add(name: "content-type", value: answer.contentType)
    head.headers.add(name: "content-length", value: String(answer.body.count))
    head.headers.add(name: "connection", value: "close")
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    if request.method != .HEAD, !answer.body.isEmpty {
      context.write(
        wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: answer.body)))), promise: nil)
    }
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in me.value.close() }
  }
}

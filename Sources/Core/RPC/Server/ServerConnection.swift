// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP2

/// The connection's own handler, behind HTTP/2's: counts streams, and closes the connection on a breach of the protocol,
/// when it is idle for too long, and at the server's end.
final class ServerConnection: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame
  typealias OutboundOut = HTTP2Frame

  /// When the last stream ended, or the connection began.
  private(set) var idleSince = NIODeadline.now()
  var isIdle: Bool { streams == 0 }

  private var streams = 0
  private var lastStream = HTTP2StreamID.rootStream
  private var isFinishing = false
  private var context: ChannelHandlerContext?
  private let server: ServerState

  init(server: ServerState) { self.server = server }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelActive(context: ChannelHandlerContext) {
    guard server.admit(self) else { return context.close(promise: nil) }
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    server.remove(self)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // Whatever it is, the peer does not speak HTTP/2 as it should (a GOAWAY that says so is on its way), or is gone.
    close()
  }

  /// Says that no more calls are taken, and closes once those under way are answered.
  func finish() {
    guard !isFinishing else { return }
    isFinishing = true
    sayGoodbye(closing: isIdle)
  }

  func streamBegan(_ id: HTTP2StreamID) {
    streams += 1
    lastStream = max(lastStream, id)
  }

  func streamEnded() {
    streams -= 1
    idleSince = .now()
    if isFinishing, isIdle { sayGoodbye(closing: true) }
  }

  /// - Parameter closing: once the GOAWAY, and with it every answer before it, is written.
  private func sayGoodbye(closing: Bool) {
    guard let context else { return }
    let payload = HTTP2Frame.FramePayload.goAway(lastStreamID: lastStream, errorCode: .noError, opaqueData: nil)
    let written = context.writeAndFlush(wrapOutboundOut(HTTP2Frame(streamID: .rootStream, payload: payload)))
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    if closing { written.whenComplete { _ in me.value.close() } }
  }

  func close() { context?.close(promise: nil) }
}

/// Tells a connection of its streams: with child channels NIO sends no events for them down the pipeline.
struct StreamCounter: NIOHTTP2StreamDelegate {
  let connection: NIOLoopBound<ServerConnection>

  func streamCreated(_ id: HTTP2StreamID, channel: any Channel) { connection.value.streamBegan(id) }

  // Later in the loop's turn: the last frame's bytes are on their way through the pipeline when this is called.
  func streamClosed(_ id: HTTP2StreamID, channel: any Channel) {
    channel.eventLoop.execute { [connection] in connection.value.streamEnded() }
  }
}

// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP2

/// The connection's own handler, behind HTTP/2's: knows what the connection is waiting for, and closes it on a breach of
/// the protocol, when its peer does not take an answer, when it is idle for too long, and at the server's end.
final class ServerConnection: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame
  typealias OutboundOut = HTTP2Frame

  /// Nil when the kernel did not tell (TCP).
  var peer: RPCPeer?
  /// When the connection began, or last got further: a stream began or ended, or the peer took an answer.
  private(set) var lastProgress = NIODeadline.now()
  /// Nothing is under way.
  var isIdle: Bool { streams == 0 && untaken == 0 }
  /// A call is being worked on. What else is under way waits for the peer: a request that is not whole, an answer that is
  /// not taken, a stream without an end.
  var isBusy: Bool { running > 0 }

  private var streams = 0
  /// Calls whose handler runs.
  private var running = 0
  /// Answers that the peer has not taken.
  private var untaken = 0
  private var untakenTimer: Scheduled<Void>?
  /// Streams that only their peer ends.
  private var openEnded: [ObjectIdentifier: CallHandler] = [:]
  private var lastStream = HTTP2StreamID.rootStream
  private var isFinishing = false
  private var isWriting = false
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
    untakenTimer?.cancel()
    server.remove(self)
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // An answer to a stream that its peer has reset meanwhile: the other streams have no part in it.
    guard !isWriting else { return }
    // Whatever it is, the peer does not speak HTTP/2 as it should (a GOAWAY that says so is on its way), or is gone.
    close()
  }

  /// Runs what writes frames of a stream, whose errors are told within.
  func writing(_ body: () -> Void) {
    let wasWriting = isWriting
    isWriting = true
    body()
    isWriting = wasWriting
  }

  /// Says that no more calls are taken, and closes once those under way are answered.
  func finish() {
    guard !isFinishing else { return }
    isFinishing = true
    for stream in Array(openEnded.values) { stream.endOpenStream() }
    sayGoodbye(closing: isIdle)
  }

  // MARK: what its streams tell

  func streamBegan(_ id: HTTP2StreamID) {
    streams += 1
    lastStream = max(lastStream, id)
    lastProgress = .now()
  }

  func streamEnded() {
    streams -= 1
    progressed()
  }

  func handlerBegan() { running += 1 }

  func handlerEnded() {
    running -= 1
    lastProgress = .now()
  }

  func openStreamBegan(_ stream: CallHandler) { openEnded[ObjectIdentifier(stream)] = stream }

  func openStreamEnded(_ stream: CallHandler) { openEnded[ObjectIdentifier(stream)] = nil }

  /// An answer is on its way.
  ///
  /// - Parameter taken: completes when its last byte is in the kernel's hands. Most often that is so already.
  func answered(_ taken: EventLoopFuture<Void>) {
    guard let context else { return }
    untaken += 1
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    taken.whenComplete { _ in me.value.answerTaken() }
    if untakenTimer == nil { waitForTaking() }
  }

  private func answerTaken() {
    untaken -= 1
    untakenTimer?.cancel()
    untakenTimer = nil
    progressed()
    // The next answer gets the whole time again.
    waitForTaking()
  }

  private func waitForTaking() {
    guard untaken > 0, let context, context.channel.isActive else { return }
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    untakenTimer = context.eventLoop.scheduleTask(in: TimeAmount(server.limits.answerTimeout)) { me.value.close() }
  }

  private func progressed() {
    lastProgress = .now()
    if isFinishing, isIdle { sayGoodbye(closing: true) }
  }

  // MARK: the end

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

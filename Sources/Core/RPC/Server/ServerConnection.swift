// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHTTP2

/// The connection's handler, after HTTP/2's: tracks what the connection waits for, and closes it on a protocol
/// violation, if its peer does not read an answer, if it is idle for too long, and when the server stops.
final class ServerConnection: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame
  typealias OutboundOut = HTTP2Frame

  /// Nil when the kernel did not tell (TCP).
  var peer: RPCPeer?
  /// When the connection started or last made progress: a stream started or ended, or the peer read an answer.
  private(set) var lastProgress = NIODeadline.now()
  /// Nothing is in progress.
  var isIdle: Bool { streams == 0 && untaken == 0 }
  /// A call is being processed. Anything else in progress waits for the peer: an incomplete request, an unread answer,
  /// an open stream.
  var isBusy: Bool { running > 0 }

  private var streams = 0
  /// Calls whose handler runs.
  private var running = 0
  /// Answers that the peer has not read.
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
    // An answer to a stream that its peer has reset meanwhile: other streams are not affected.
    guard !isWriting else { return }
    // The peer violates HTTP/2 (a GOAWAY is being sent), or is gone.
    close()
  }

  /// Runs code that writes frames of a stream and handles its errors.
  func writing(_ body: () -> Void) {
    let wasWriting = isWriting
    isWriting = true
    body()
    isWriting = wasWriting
  }

  /// Announces that no more calls are accepted, and closes once pending ones are answered.
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
  /// - Parameter taken: completes when the kernel has its last byte, usually at once.
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
    // The next answer gets the full time again.
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

/// Notifies a connection of its streams: with child channels NIO sends no pipeline events for them.
struct StreamCounter: NIOHTTP2StreamDelegate {
  let connection: NIOLoopBound<ServerConnection>

  func streamCreated(_ id: HTTP2StreamID, channel: any Channel) { connection.value.streamBegan(id) }

  // Deferred within the loop's turn: the last frame's bytes are still in the pipeline when this is called.
  func streamClosed(_ id: HTTP2StreamID, channel: any Channel) {
    channel.eventLoop.execute { [connection] in connection.value.streamEnded() }
  }
}

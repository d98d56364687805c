// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHPACK
import NIOHTTP2
import VPCModel

/// One call on one HTTP/2 stream; lives on the event loop.
///
///     headers ──▶ body ──▶ running ──▶ over
///        │          │         │
///        │          ├──▶ subscribed ──▶ over      a stream of answers: until its caller goes away
///        ├──▶ dialogue ──▶ over                   a stream of requests, each answered at once
///        └──────────┴─────────┴──────▶ over       refused, past its deadline, or the caller went away
///
/// headers     nothing came yet
/// body        the request is coming in; the deadline's timer runs from here on
/// running     the handler's task runs; its answer comes back to the event loop
/// subscribed  a task sends an answer whenever there is one, the next when the caller has taken the last
/// dialogue    requests come in; the timer bounds the pause between two of them
/// over        answered or abandoned; whatever comes is dropped
final class CallHandler: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private enum State {
    case headers
    case body(CallRequest, RPCContext, UnaryMessageReader)
    case running(Task<Void, Never>)
    case subscribed(Task<Void, Never>)
    case dialogue(Conversation)
    case over
  }

  /// A request stream in progress.
  private struct Conversation {
    let dialogue: RPCMethodTable.Dialogue
    var reader: UnaryMessageReader
    /// Received data that is not processed yet, because answers are pending.
    var rest = ByteBuffer()
    var hasEnded = false

    var held: Int { rest.readableBytes + reader.bytes.count }
  }

  private var state = State.headers
  private var timer: Scheduled<Void>?
  private var requestEnded = false
  private var headWritten = false
  private var buffered = 0
  /// Answers of this stream that its caller has not read.
  private var untaken = 0
  private var context: ChannelHandlerContext?
  private let server: ServerState
  private let connection: ServerConnection

  init(server: ServerState, connection: ServerConnection) {
    self.server = server
    self.connection = connection
  }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }

  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .headers(let headers):
      requestEnded = headers.endStream
      if case .headers = state { begin(headers.headers, context) }
      if headers.endStream { endOfRequest(context) }
    case .data(let data):
      requestEnded = data.endStream
      if case .byteBuffer(let bytes) = data.data { append(bytes, context) }
      if data.endStream { endOfRequest(context) }
    default:
      break
    }
  }

  func channelInactive(context: ChannelHandlerContext) {
    leave()
    context.fireChannelInactive()
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // A reset stream or a broken connection: there is no one to answer.
    leave()
    context.close(promise: nil)
  }

  // MARK: the request

  private func begin(_ headers: HPACKHeaders, _ context: ChannelHandlerContext) {
    do throws(CallRequest.Refusal) {
      let request = try CallRequest(headers, methods: server.methods)
      guard server.calls < server.limits.concurrentCalls else {
        throw .status(RPCStatus(.resourceExhausted, "too many calls at once"))
      }
      if case .dialogue(let dialogue) = request.handler {
        try beginOpenStream()
        state = .dialogue(
          Conversation(dialogue: dialogue, reader: UnaryMessageReader(limit: server.limits.requestBytes)))
        return schedule(TimeAmount(server.limits.pauseTimeout), context)
      }
      server.calls += 1
      let timeout = min(request.timeout ?? server.limits.callTimeout, server.limits.callTimeout)
      let deadline = ContinuousClock.now.advanced(by: timeout)
      state = .body(
        request, RPCContext(method: request.method, deadline: deadline, peer: connection.peer),
        UnaryMessageReader(limit: server.limits.requestBytes))
      schedule(TimeAmount(min(timeout, server.limits.requestTimeout)), context)
    } catch {
      switch error {
      case .http(let status): answerHTTP(status, context)
      case .status(let status): end(status, context)
      }
    }
  }

  private func beginOpenStream() throws(CallRequest.Refusal) {
    guard server.openStreams < server.limits.openStreams else {
      throw .status(RPCStatus(.resourceExhausted, "too many streams at once"))
    }
    server.openStreams += 1
    connection.openStreamBegan(self)
  }

  private func append(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
    switch state {
    case .body(let request, let callContext, var reader):
      // Moved out of the state meanwhile, so that the reader's bytes are not copied on every piece.
      state = .over
      let refusal = take(bytes, into: &reader)
      state = .body(request, callContext, reader)
      if let refusal { end(refusal, context) }
    case .dialogue(var talk):
      talk.rest.writeImmutableBuffer(bytes)
      state = .dialogue(talk)
      converse(context)
    case .headers, .running, .subscribed, .over: break
    }
  }

  /// - Returns: why the request is refused, if it is.
  private func take(_ bytes: ByteBuffer, into reader: inout UnaryMessageReader) -> RPCStatus? {
    buffered += bytes.readableBytes
    server.buffered += bytes.readableBytes
    do throws(RPCStatus) {
      guard server.buffered <= server.limits.bufferedBytes else {
        throw RPCStatus(.resourceExhausted, "too much request data at once")
      }
      try reader.append(bytes.readableBytesView)
      return nil
    } catch {
      return error
    }
  }

  private func endOfRequest(_ context: ChannelHandlerContext) {
    if case .dialogue(var talk) = state {
      talk.hasEnded = true
      state = .dialogue(talk)
      return converse(context)
    }
    guard case .body(let request, let callContext, let reader) = state else { return }
    guard let message = reader.message else {
      let text = reader.isEmpty ? "request without a message" : "request cut short"
      return end(RPCStatus(.internal, text), context)
    }
    let left = ContinuousClock.now.duration(to: callContext.deadline)
    // Checked here too: a handler faster than the timer would act for a caller that has given up.
    guard left > .zero else { return end(CallHandler.incomplete, context) }
    switch request.handler {
    case .unary(let handler):
      schedule(TimeAmount(left), context)
      run(handler, message, callContext, context)
    case .subscription(let subscription):
      subscribe(subscription, message, hasDeadline: request.timeout != nil, left, context)
    case .dialogue:
      break  // never in this state
    }
  }

  // MARK: one request, one answer

  private func run(
    _ handler: @escaping RPCMethodTable.Unary, _ message: [UInt8], _ callContext: RPCContext,
    _ context: ChannelHandlerContext
  ) {
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let place = NIOLoopBound(context, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    let answer: @Sendable (Result<[UInt8], RPCStatus>) -> Void = { result in
      loop.execute { me.value.answer(result, place.value) }
    }
    connection.handlerBegan()
    state = .running(Self.start(handler, message, callContext, on: server.executor, answer: answer))
  }

  private static func start(
    _ handler: @escaping RPCMethodTable.Unary, _ message: [UInt8], _ context: RPCContext,
    on executor: EventLoopExecutor, answer: @escaping @Sendable (Result<[UInt8], RPCStatus>) -> Void
  ) -> Task<Void, Never> {
    Task(executorPreference: executor) { answer(await result(of: handler, message, context)) }
  }

  private static func result(
    of handler: RPCMethodTable.Unary, _ message: [UInt8], _ context: RPCContext
  ) async -> Result<[UInt8], RPCStatus> {
    do {
      return .success(try await handler(message, context))
    } catch let status as RPCStatus {
      // An error with code OK is a bug and must not look like a reply without a message.
      return .failure(status.code == .ok ? RPCStatus(.unknown, status.message) : status)
    } catch is CancellationError {
      return .failure(RPCStatus(.cancelled, "call cancelled"))
    } catch {
      return .failure(RPCStatus(.unknown, CauseChain.text(error)))
    }
  }

  private func answer(_ result: Result<[UInt8], RPCStatus>, _ context: ChannelHandlerContext) {
    if case .over = state { return }
    switch result {
    case .success(let message):
      writeMessage(message, context)
      end(CallHandler.success, context)
    case .failure(let status):
      end(status, context)
    }
  }

  // MARK: streams

  /// Answers until the caller goes away, its deadline passes, or the server stops.
  private func subscribe(
    _ subscription: RPCMethodTable.Subscription, _ message: [UInt8], hasDeadline: Bool, _ left: Duration,
    _ context: ChannelHandlerContext
  ) {
    timer?.cancel()
    server.calls -= 1
    state = .over
    let answers: AsyncStream<[UInt8]>
    do throws(CallRequest.Refusal) {
      do throws(RPCStatus) { answers = try subscription(message) } catch { throw .status(error) }
      try beginOpenStream()
    } catch {
      if case .status(let status) = error { writeEnd(status, context) }
      return
    }
    if hasDeadline { schedule(TimeAmount(left), context) }
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    let send: @Sendable ([UInt8]) -> EventLoopFuture<Void> = { answer in
      loop.flatSubmit { me.value.send(answer, on: loop) }
    }
    state = .subscribed(Self.start(answers, on: server.executor, send: send))
  }

  private static func start(
    _ answers: AsyncStream<[UInt8]>, on executor: EventLoopExecutor,
    send: @escaping @Sendable ([UInt8]) -> EventLoopFuture<Void>
  ) -> Task<Void, Never> {
    Task(executorPreference: executor) {
      for await answer in answers {
        // Not before the caller has read the last one: unread answers are not queued.
        do { try await send(answer).get() } catch { return }
      }
    }
  }

  private func send(_ message: [UInt8], on loop: any EventLoop) -> EventLoopFuture<Void> {
    guard case .subscribed = state, let context else { return loop.makeFailedFuture(CancellationError()) }
    let taken = loop.makePromise(of: Void.self)
    writeMessage(message, context, taken)
    connection.writing { context.flush() }
    connection.answered(taken.futureResult)
    return taken.futureResult
  }

  /// Processes complete requests, and answers each, as long as the caller reads the answers.
  private func converse(_ context: ChannelHandlerContext) {
    guard case .dialogue(var talk) = state else { return }
    do throws(RPCStatus) {
      while talk.rest.readableBytes > 0, untaken < CallHandler.untakenLimit {
        let length = min(talk.rest.readableBytes, talk.reader.missing)
        try talk.reader.append((talk.rest.readSlice(length: length) ?? ByteBuffer()).readableBytesView)
        guard let message = talk.reader.message else { continue }
        talk.reader = UnaryMessageReader(limit: talk.reader.limit)
        reply(try talk.dialogue(message), context)
      }
      server.buffered += talk.held - buffered
      buffered = talk.held
      guard talk.rest.readableBytes <= server.limits.requestBytes, server.buffered <= server.limits.bufferedBytes else {
        throw RPCStatus(.resourceExhausted, "too many requests whose answers were not taken")
      }
    } catch {
      return end(error, context)
    }
    if talk.hasEnded, talk.rest.readableBytes == 0 {
      return end(talk.reader.isEmpty ? CallHandler.success : RPCStatus(.internal, "request cut short"), context)
    }
    state = .dialogue(talk)
    // While answers are unread, their own time limit applies.
    if talk.rest.readableBytes == 0 {
      schedule(TimeAmount(server.limits.pauseTimeout), context)
    } else {
      timer?.cancel()
    }
    connection.writing { context.flush() }
  }

  private func reply(_ message: [UInt8], _ context: ChannelHandlerContext) {
    let taken = context.eventLoop.makePromise(of: Void.self)
    writeMessage(message, context, taken)
    untaken += 1
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    taken.futureResult.whenComplete { _ in me.value.replyTaken() }
    connection.answered(taken.futureResult)
  }

  private func replyTaken() {
    untaken -= 1
    guard case .dialogue(let talk) = state, talk.rest.readableBytes > 0, let context else { return }
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    // Deferred: an immediately written reply would call this recursively.
    context.eventLoop.execute {
      if let context = me.value.context { me.value.converse(context) }
    }
  }

  /// Answers that one stream may leave in the server's memory.
  private static let untakenLimit = 32

  /// The server stops: otherwise only the caller ends such a stream.
  func endOpenStream() {
    if let context { end(RPCStatus(.unavailable, "the server is stopping"), context) }
  }

  // MARK: the answer

  private static let success = RPCStatus(.ok, "")

  private func schedule(_ time: TimeAmount, _ context: ChannelHandlerContext) {
    timer?.cancel()
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let place = NIOLoopBound(context, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: time) { me.value.end(me.value.pastDeadline, place.value) }
  }

  private func writeMessage(
    _ message: [UInt8], _ context: ChannelHandlerContext, _ taken: EventLoopPromise<Void>? = nil
  ) {
    if !headWritten { write(.headers(.init(headers: CallAnswer.head)), context) }
    headWritten = true
    let body = context.channel.allocator.buffer(bytes: MessageFrame.encode(message))
    write(.data(.init(data: .byteBuffer(body))), context, taken)
  }

  /// The text for a caller, and so for a pod's event, when the deadline ends the call: the likely cause and where to
  /// look.
  private var pastDeadline: RPCStatus {
    switch state {
    case .running:
      return RPCStatus(
        .deadlineExceeded,
        "the agent did not answer within the call's deadline: it is busy, or waits for its disk or the kernel; "
          + "its log and aws-cni status say for what")
    case .subscribed, .dialogue: return RPCStatus(.deadlineExceeded, "the stream's deadline is over")
    default: return CallHandler.incomplete
    }
  }

  private static let incomplete = RPCStatus(
    .deadlineExceeded, "the request was not whole within the call's deadline: the node is busy")

  /// Ends the call with a status, unless it has ended.
  private func end(_ status: RPCStatus, _ context: ChannelHandlerContext) {
    if case .over = state { return }
    leave()
    writeEnd(status, context)
  }

  private func writeEnd(_ status: RPCStatus, _ context: ChannelHandlerContext) {
    let headers = headWritten ? CallAnswer.trailers(status) : CallAnswer.trailersOnly(status)
    endStream(headers, context)
  }

  private func answerHTTP(_ status: Int, _ context: ChannelHandlerContext) {
    leave()
    endStream(HPACKHeaders([(":status", String(status))]), context)
  }

  private func endStream(_ headers: HPACKHeaders, _ context: ChannelHandlerContext) {
    let taken = context.eventLoop.makePromise(of: Void.self)
    write(.headers(.init(headers: headers, endStream: true)), context, taken)
    // Answered before the request was complete: the rest is not needed. Source: RFC 9113, 8.1. A reset would discard
    // pending answers and the status after them: then the rest is ignored instead.
    if !requestEnded, untaken == 0 { write(.rstStream(.noError), context) }
    connection.writing { context.flush() }
    connection.answered(taken.futureResult)
  }

  private func write(
    _ frame: HTTP2Frame.FramePayload, _ context: ChannelHandlerContext, _ taken: EventLoopPromise<Void>? = nil
  ) {
    context.write(wrapOutboundOut(frame), promise: taken)
  }

  /// Ends the call here: no timer, no task, nothing counted any more.
  private func leave() {
    timer?.cancel()
    timer = nil
    server.buffered -= buffered
    buffered = 0
    switch state {
    case .body: server.calls -= 1
    case .running(let task):
      server.calls -= 1
      connection.handlerEnded()
      task.cancel()
    case .subscribed(let task):
      leaveOpenStream()
      task.cancel()
    case .dialogue: leaveOpenStream()
    case .headers, .over: break
    }
    state = .over
  }

  private func leaveOpenStream() {
    server.openStreams -= 1
    connection.openStreamEnded(self)
  }
}

extension TimeAmount {
  /// At least zero, at most a year.
  init(_ duration: Duration) {
    self = .nanoseconds(min(max(duration, .zero), .seconds(31_536_000)).saturatedNanoseconds)
  }
}

// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOHPACK
import NIOHTTP2
import VPCModel

/// One call on one HTTP/2 stream; lives on the event loop.
///
///     headers ──▶ body ──▶ running ──▶ over
///        │          │         │
///        └──────────┴─────────┴──────▶ over      refused, past its deadline, or the caller went away
///
/// headers  nothing came yet
/// body     the request is coming in; the deadline's timer runs from here on
/// running  the handler's task runs; its answer comes back to the event loop
/// over     answered or abandoned; whatever comes is dropped
final class CallHandler: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private enum State {
    case headers
    case body(CallRequest, RPCContext, UnaryMessageReader)
    case running(Task<Void, Never>)
    case over
  }

  private var state = State.headers
  private var timer: Scheduled<Void>?
  private var requestEnded = false
  private var buffered = 0
  private let server: ServerState
  private let peer: RPCPeer?

  init(server: ServerState, peer: RPCPeer?) {
    self.server = server
    self.peer = peer
  }

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
    // A reset stream, or a connection that broke: there is nobody to answer.
    leave()
    context.close(promise: nil)
  }

  private func begin(_ headers: HPACKHeaders, _ context: ChannelHandlerContext) {
    do throws(CallRequest.Refusal) {
      let request = try CallRequest(headers, methods: server.methods)
      guard server.calls < server.limits.concurrentCalls else {
        throw .status(RPCStatus(.resourceExhausted, "too many calls at once"))
      }
      server.calls += 1
      let timeout = min(request.timeout ?? server.limits.callTimeout, server.limits.callTimeout)
      let deadline = ContinuousClock.now.advanced(by: timeout)
      state = .body(
        request, RPCContext(method: request.method, deadline: deadline, peer: peer),
        UnaryMessageReader(limit: server.limits.requestBytes))
      schedule(TimeAmount(min(timeout, server.limits.requestTimeout)), context)
    } catch {
      switch error {
      case .http(let status): answerHTTP(status, context)
      case .status(let status): answer(.failure(status), context)
      }
    }
  }

  private func append(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
    guard case .body(let request, let callContext, var reader) = state else { return }
    // Taken out of the state meanwhile, so that the reader's bytes are not copied on every piece.
    state = .over
    buffered += bytes.readableBytes
    server.buffered += bytes.readableBytes
    do throws(RPCStatus) {
      guard server.buffered <= server.limits.bufferedBytes else {
        throw RPCStatus(.resourceExhausted, "too much request data at once")
      }
      try reader.append(bytes.readableBytesView)
      state = .body(request, callContext, reader)
    } catch {
      state = .body(request, callContext, reader)
      answer(.failure(error), context)
    }
  }

  private func endOfRequest(_ context: ChannelHandlerContext) {
    guard case .body(let request, let callContext, let reader) = state else { return }
    guard let message = reader.message else {
      let text = reader.isEmpty ? "request without a message" : "request cut short"
      return answer(.failure(RPCStatus(.internal, text)), context)
    }
    let left = ContinuousClock.now.duration(to: callContext.deadline)
    // Checked here too: a handler that is quicker than the timer would act for a caller that has given up.
    guard left > .zero else { return answer(.failure(CallHandler.incomplete), context) }
    schedule(TimeAmount(left), context)
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let place = NIOLoopBound(context, eventLoop: context.eventLoop)
    let loop = context.eventLoop
    let answer: @Sendable (Result<[UInt8], RPCStatus>) -> Void = { result in
      loop.execute { me.value.answer(result, place.value) }
    }
    state = .running(Self.start(request.handler, message, callContext, on: server.executor, answer: answer))
  }

  private static func start(
    _ handler: @escaping RPCMethodTable.Handler, _ message: [UInt8], _ context: RPCContext,
    on executor: EventLoopExecutor, answer: @escaping @Sendable (Result<[UInt8], RPCStatus>) -> Void
  ) -> Task<Void, Never> {
    Task(executorPreference: executor) { answer(await run(handler, message, context)) }
  }

  private static func run(
    _ handler: RPCMethodTable.Handler, _ message: [UInt8], _ context: RPCContext
  ) async -> Result<[UInt8], RPCStatus> {
    do {
      return .success(try await handler(message, context))
    } catch let status as RPCStatus {
      // An error that says OK is a mistake which must not look like a reply without a message.
      return .failure(status.code == .ok ? RPCStatus(.unknown, status.message) : status)
    } catch is CancellationError {
      return .failure(RPCStatus(.cancelled, "call cancelled"))
    } catch {
      return .failure(RPCStatus(.unknown, CauseChain.text(error)))
    }
  }

  private func schedule(_ time: TimeAmount, _ context: ChannelHandlerContext) {
    timer?.cancel()
    let me = NIOLoopBound(self, eventLoop: context.eventLoop)
    let place = NIOLoopBound(context, eventLoop: context.eventLoop)
    timer = context.eventLoop.scheduleTask(in: time) {
      me.value.answer(.failure(me.value.pastDeadline), place.value)
    }
  }

  /// What a caller, and by it a pod's event, is told when the deadline ends the call: whose fault it is and where to look.
  private var pastDeadline: RPCStatus {
    guard case .running = state else { return CallHandler.incomplete }
    return RPCStatus(
      .deadlineExceeded,
      "the agent did not answer within the call's deadline: it is busy, or waits for its disk or the kernel; "
        + "its log and aws-cni status say for what")
  }

  private static let incomplete = RPCStatus(
    .deadlineExceeded, "the request was not whole within the call's deadline: the node is busy")

  private func answer(_ result: Result<[UInt8], RPCStatus>, _ context: ChannelHandlerContext) {
    if case .over = state { return }
    leave()
    switch result {
    case .success(let message):
      write(.headers(.init(headers: CallAnswer.head)), context)
      let body = context.channel.allocator.buffer(bytes: MessageFrame.encode(message))
      write(.data(.init(data: .byteBuffer(body))), context)
      write(.headers(.init(headers: CallAnswer.success, endStream: true)), context)
    case .failure(let status):
      write(.headers(.init(headers: CallAnswer.trailersOnly(status), endStream: true)), context)
    }
    endStream(context)
  }

  private func answerHTTP(_ status: Int, _ context: ChannelHandlerContext) {
    leave()
    let headers = HPACKHeaders([(":status", String(status))])
    write(.headers(.init(headers: headers, endStream: true)), context)
    endStream(context)
  }

  private func endStream(_ context: ChannelHandlerContext) {
    // Answered before the request was whole: the rest is not wanted. Source: RFC 9113, 8.1.
    if !requestEnded { write(.rstStream(.noError), context) }
    context.flush()
  }

  private func write(_ frame: HTTP2Frame.FramePayload, _ context: ChannelHandlerContext) {
    context.write(wrapOutboundOut(frame), promise: nil)
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
      task.cancel()
    case .headers, .over: break
    }
    state = .over
  }
}

extension TimeAmount {
  /// At least zero, at most a year.
  init(_ duration: Duration) {
    let (seconds, attoseconds) = min(max(duration, .zero), .seconds(31_536_000)).components
    self = .nanoseconds(seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Unary gRPC calls on a blocking socket, one connection a call.
///
/// It is on the path of every pod's start, so it has no thread, no event loop and no task: it connects, writes the
/// request at once, reads the answer and closes. A call blocks its thread until its deadline at most: never call it on
/// the cooperative pool.
///
/// Read next: `ClientSocket` (the waits), `HTTP2Exchange` (nghttp2), `UnaryResponse` (what an answer means).
package struct UnaryClient: Sendable {
  package var target: RPCTarget
  /// The `user-agent` header.
  package var userAgent = "vpc-cni"
  /// Largest request sent, bytes of the message.
  package var requestLimit = 1_024 * 1_024
  /// Largest answer taken, bytes of the message.
  package var responseLimit = 4 * 1_024 * 1_024

  package init(target: RPCTarget) { self.target = target }

  /// Calls one method and waits for its answer.
  ///
  /// - Parameters:
  ///   - request: the encoded message.
  ///   - timeout: for the call; also sent as `grpc-timeout`, so that the server gives up too.
  ///   - connectTimeout: for the connect, before `timeout` begins; nil means that `timeout` covers both.
  ///   - meanwhile: runs once after the request has been sent, while the server works. Its time counts against the
  ///     timeout.
  /// - Returns: the encoded reply.
  /// - Throws: `RPCError`; its stage distinguishes a missing server from a failed one.
  package func call(
    _ method: RPCMethod, request: [UInt8], timeout: Duration, connectTimeout: Duration? = nil,
    meanwhile: () -> Void = {}
  ) throws(RPCError) -> [UInt8] {
    do throws(RPCError) {
      guard request.count <= requestLimit else {
        let text = "request of \(request.count) bytes, at most \(requestLimit) are sent"
        throw RPCError(.request, RPCStatus(.resourceExhausted, text))
      }
      let limit = ContinuousClock.now.advanced(by: connectTimeout ?? timeout)
      let socket = try connect(until: limit, code: connectTimeout == nil ? .deadlineExceeded : .unavailable)
      let now = ContinuousClock.now
      let deadline = connectTimeout == nil ? limit : now.advanced(by: timeout)
      let exchange = try HTTP2Exchange(
        headers: headers(method, timeout: now.duration(to: deadline)),
        body: MessageFrame.encode(request), responseLimit: responseLimit)
      try run(exchange, on: socket, deadline: deadline, meanwhile: meanwhile)
      return try exchange.response.message()
    } catch {
      var error = error
      error.method = method.description
      error.target = target.description
      throw error
    }
  }

  /// - Parameter code: the status when the time is over.
  private func connect(until limit: ContinuousClock.Instant, code: RPCCode) throws(RPCError) -> ClientSocket {
    do throws(SocketError) {
      return try ClientSocket.connected(to: target, until: limit)
    } catch {
      let status = RPCStatus(error.errno == ETIMEDOUT ? code : .unavailable, "cannot connect")
      throw RPCError(.connect, status, cause: error)
    }
  }

  private func headers(_ method: RPCMethod, timeout: Duration) -> [(String, String)] {
    [
      (":method", "POST"), (":scheme", "http"), (":path", method.path), (":authority", target.authority),
      ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", userAgent),
      ("grpc-accept-encoding", "identity"), ("grpc-timeout", TimeoutHeader.encode(timeout)),
    ]
  }

  /// Sends and receives until the answer is complete.
  private func run(
    _ exchange: HTTP2Exchange, on socket: borrowing ClientSocket, deadline: ContinuousClock.Instant,
    meanwhile: () -> Void
  ) throws(RPCError) {
    var buffer = [UInt8](repeating: 0, count: 16 * 1_024)
    var received = 0
    // Acknowledgements (of the server's settings) are delayed: with a quick answer the connection closes first, which
    // saves a system call and a wake-up.
    var holdsBack = true
    var hasWorked = false
    while !exchange.response.isEnded {
      if !(holdsBack && exchange.isRequestSent) { try write(exchange.takeOutput(), to: socket, until: deadline) }
      if exchange.isRequestSent, !hasWorked {
        hasWorked = true
        meanwhile()
      }
      let now = ContinuousClock.now
      guard now < deadline else {
        throw RPCError(.exchange, RPCStatus(.deadlineExceeded, "no answer within the deadline"))
      }
      let limit = holdsBack ? min(deadline, now.advanced(by: .milliseconds(20))) : deadline
      guard let count = try read(from: socket, into: &buffer, until: limit) else {
        holdsBack = false
        continue
      }
      received += count
      // Other frames are bounded too: a megabyte is far beyond any real connection's.
      guard count > 0, received <= responseLimit + 1_024 * 1_024 else {
        _ = try exchange.takeOutput()  // distinguishes a peer without HTTP/2 from one that went away
        throw RPCError(.exchange, RPCStatus(.unavailable, "connection closed before the answer was complete"))
      }
      try exchange.feed(buffer[..<count])
      if exchange.response.hasBody { holdsBack = false }
    }
  }

  private func write(
    _ bytes: [UInt8], to socket: borrowing ClientSocket, until deadline: ContinuousClock.Instant
  ) throws(RPCError) {
    guard !bytes.isEmpty else { return }
    do throws(SocketError) {
      try socket.write(bytes, until: deadline)
    } catch {
      throw Self.lost(error)
    }
  }

  /// Nil when nothing came until `limit`; 0 at the end of the stream.
  private func read(
    from socket: borrowing ClientSocket, into buffer: inout [UInt8], until limit: ContinuousClock.Instant
  ) throws(RPCError) -> Int? {
    do throws(SocketError) {
      guard try socket.waitReadable(until: limit) else { return nil }
      return try socket.read(into: &buffer)
    } catch {
      throw Self.lost(error)
    }
  }

  private static func lost(_ error: SocketError) -> RPCError {
    let code: RPCCode = error.errno == ETIMEDOUT ? .deadlineExceeded : .unavailable
    return RPCError(.exchange, RPCStatus(code, "connection lost"), cause: error)
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// An answer with a streamed body: for watches, which last for minutes.
//
//   opening ──header──▶ open ──last byte──▶ ended
//      └───────────────────┴──failure, cancel──▶ failed
//
// Unread data is bounded: past `highWater` the transfer pauses, so that the TCP window fills, and resumes when the
// reader has consumed the data.

internal import Synchronization

/// Limits of a stream besides its request's. The request's `timeout` applies up to the end of the header.
package struct HTTPStreamLimits: Sendable, Hashable {
  /// The whole stream, from `open` on.
  package var lifetime: Duration
  /// Without data for this long the stream fails with `.timedOut`.
  package var idle: Duration
  /// Bytes that wait for the reader before the transfer is paused.
  package var highWater: Int

  package init(lifetime: Duration, idle: Duration, highWater: Int = 256 << 10) {
    self.lifetime = lifetime
    self.idle = idle
    self.highWater = highWater
  }
}

/// Opens streams.
package protocol HTTPStreamTransport: HTTPTransport {
  /// Sends the request and waits for the answer's header.
  ///
  /// - Returns: the answer, whatever its status; its body is still to be read.
  /// - Throws: `HTTPError` if there is no header. Cancelling the task ends the transfer.
  func open(_ request: HTTPRequest, _ limits: HTTPStreamLimits) async throws(HTTPError) -> HTTPStream
}

/// One answer in progress. It has one reader; the transfer ends with the last reference to it.
package final class HTTPStream: Sendable {
  /// What the transfer's thread writes and the reader reads.
  final class Inbox: Sendable {
    struct State {
      var head: HTTPResponse?
      var bytes: [UInt8] = []
      var isPaused = false
      var end: Result<Void, HTTPError>?
      var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    /// The header is complete.
    func begin(_ head: HTTPResponse) { change { if $0.head == nil { $0.head = head } } }

    /// - Returns: false if there is no room: the bytes are delivered again once the reader resumes.
    func push(_ bytes: UnsafeRawBufferPointer, highWater: Int) -> Bool {
      var isTaken = true
      change { state in
        if !state.bytes.isEmpty, state.bytes.count + bytes.count > highWater {
          state.isPaused = true
          isTaken = false
        } else {
          state.bytes.append(contentsOf: bytes)
        }
      }
      return isTaken
    }

    func end(_ result: Result<Void, HTTPError>) { change { if $0.end == nil { $0.end = result } } }

    private func change(_ body: (inout State) -> Void) {
      let waiter = state.withLock { state in
        body(&state)
        defer { state.waiter = nil }
        return state.waiter
      }
      waiter?.resume()
    }

    func head() async throws(HTTPError) -> HTTPResponse? {
      while true {
        let (head, end) = state.withLock { ($0.head, $0.end) }
        if let head { return head }
        if let end {
          try end.get()
          return nil
        }
        await wait { $0.head != nil || $0.end != nil }
      }
    }

    /// - Returns: all received data, nil at the end; and whether to resume the transfer.
    func take() async throws(HTTPError) -> (bytes: [UInt8], wasPaused: Bool)? {
      while true {
        let (bytes, wasPaused, end) = state.withLock { state in
          defer {
            state.bytes = []
            state.isPaused = false
          }
          return (state.bytes, state.isPaused, state.end)
        }
        if !bytes.isEmpty { return (bytes, wasPaused) }
        if let end {
          try end.get()
          return nil
        }
        await wait { !$0.bytes.isEmpty || $0.end != nil }
      }
    }

    private func wait(until isReady: (State) -> Bool) async {
      await withCheckedContinuation { continuation in
        let isNow = state.withLock { state in
          if isReady(state) { return true }
          state.waiter = continuation
          return false
        }
        if isNow { continuation.resume() }
      }
    }
  }

  /// 200…999.
  package let status: Int
  package let headers: HTTPHeaders
  private let inbox: Inbox
  private let resume: @Sendable () -> Void
  private let cancelTransfer: @Sendable () -> Void

  init(
    head: HTTPResponse, inbox: Inbox, resume: @escaping @Sendable () -> Void,
    cancel: @escaping @Sendable () -> Void
  ) {
    status = head.status
    headers = head.headers
    self.inbox = inbox
    self.resume = resume
    cancelTransfer = cancel
  }

  deinit { cancelTransfer() }

  /// Waits for more of the body.
  ///
  /// - Returns: the data since the last call, at least one byte; nil at the regular end.
  /// - Throws: `HTTPError` if the answer was interrupted, also `.cancelled` if the task was cancelled.
  package func next() async throws(HTTPError) -> [UInt8]? {
    let result: Result<(bytes: [UInt8], wasPaused: Bool)?, HTTPError> = await withTaskCancellationHandler {
      do throws(HTTPError) {
        return .success(try await inbox.take())
      } catch {
        return .failure(error)
      }
    } onCancel: {
      cancelTransfer()
    }
    guard let taken = try result.get() else { return nil }
    if taken.wasPaused { resume() }
    return taken.bytes
  }

  /// The rest of the body up to a limit, for an error answer; an interrupted one stays incomplete.
  package func rest(upTo limit: Int) async -> [UInt8] {
    var all: [UInt8] = []
    while all.count < limit, let part = try? await next() { all += part }  // an error text that breaks off is still one
    return Array(all.prefix(limit))
  }
}

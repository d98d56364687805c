// SPDX-License-Identifier: Apache-2.0

import Synchronization
import VPCCloud
import VPCModel
import VPCTransport

/// A transport that answers from a closure and records its requests.
final class FakeTransport: HTTPTransport {
  private let answer: @Sendable (HTTPRequest) async throws(HTTPError) -> HTTPResponse
  private let log = Mutex<[HTTPRequest]>([])

  private let gate = Mutex<(requests: Int, waiting: [CheckedContinuation<Void, Never>])>((0, []))

  var requests: [HTTPRequest] { log.withLock { $0 } }

  /// Holds back all answers until this many requests have been sent.
  func holdUntil(requests count: Int) { gate.withLock { $0.requests = count } }

  init(_ answer: @escaping @Sendable (HTTPRequest) async throws(HTTPError) -> HTTPResponse) { self.answer = answer }

  func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse {
    let count = log.withLock { log in
      log.append(request)
      return log.count
    }
    await pass(count)
    return try await answer(request)
  }

  private func pass(_ count: Int) async {
    await withCheckedContinuation { continuation in
      let released = gate.withLock { gate in
        gate.waiting.append(continuation)
        guard count >= gate.requests else { return [] as [CheckedContinuation<Void, Never>] }
        defer { gate.waiting = [] }
        return gate.waiting
      }
      for each in released { each.resume() }
    }
  }
}

extension HTTPResponse {
  init(_ status: Int = 200, _ body: String, headers: HTTPHeaders = [:]) {
    self.init(status: status, headers: headers, body: Array(body.utf8))
  }
}

/// A clock that stands still until the test moves it; sleeping moves it too.
final class ManualTime: Sendable {
  private struct State {
    var elapsed = Duration.zero
    var sleeps: [Duration] = []
  }

  private let start = ContinuousClock.now
  private let state = Mutex(State())
  private let startSeconds: Int64

  init(startSeconds: Int64 = 1_700_000_000) { self.startSeconds = startSeconds }

  var sleeps: [Duration] { state.withLock { $0.sleeps } }

  func advance(_ duration: Duration) { state.withLock { $0.elapsed += duration } }

  var wallClock: @Sendable () -> UTCTime {
    { UTCTime(seconds: self.startSeconds + self.state.withLock { $0.elapsed.components.seconds }) }
  }

  var source: TimeSource {
    TimeSource(
      now: { self.start.advanced(by: self.state.withLock { $0.elapsed }) },
      sleep: { duration in
        self.state.withLock {
          $0.elapsed += duration
          $0.sleeps.append(duration)
        }
      },
      random: { 0.5 })
  }
}

/// A counter that closures can share.
final class Counter: Sendable {
  private let count = Mutex(0)
  var value: Int { count.withLock { $0 } }

  @discardableResult
  func next() -> Int {
    count.withLock { count in
      count += 1
      return count
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCTransport

/// Answers that are read while they arrive.
@Suite struct HTTPStreamTests {
  private static let limits = HTTPStreamLimits(lifetime: .seconds(60), idle: .seconds(60), highWater: 64 << 10)

  private func failure(_ body: () async throws(HTTPError) -> Void) async -> HTTPError? {
    do throws(HTTPError) {
      try await body()
      return nil
    } catch {
      return error
    }
  }

  private static func answer(_ body: [UInt8], length: Int? = nil) -> [UInt8] {
    Array("HTTP/1.1 200 OK\r\nContent-Length: \(length ?? body.count)\r\nX-A: b\r\n\r\n".utf8) + body
  }

  /// Megabytes for a slow reader: all of it arrives, in order, and no more than the limit is ever waiting.
  @Test func largeBodiesArriveWholeAndWaitBounded() async throws {
    let body = (0..<(4 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    try await withServer { _ in
      .raw(Self.answer(body))
    } _: { (server) async throws in
      let transport = PatientTransport()
      defer { withExtendedLifetime(transport) {} }
      let stream = try await transport.open(HTTPRequest(url: server.url), Self.limits)
      #expect(stream.status == 200 && stream.headers["x-a"] == "b")
      var seen: [UInt8] = []
      while let part = try await stream.next() {
        #expect(part.count <= (64 << 10) + (16 << 10))
        seen += part
        await Task.yield()
      }
      #expect(seen == body)
    }
  }

  @Test func answersThatBreakOffThrow() async throws {
    try await withServer { _ in
      .raw(Self.answer(Array("half".utf8), length: 100))
    } _: { (server) async throws in
      let transport = PatientTransport()
      // A stream does not keep its transport alive: without this line, the answer could also end as `.closed`.
      defer { withExtendedLifetime(transport) {} }
      let stream = try await transport.open(HTTPRequest(url: server.url), Self.limits)
      #expect(try await stream.next() == Array("half".utf8))
      #expect(await failure { () async throws(HTTPError) in _ = try await stream.next() }?.code == .interrupted)
    }
  }

  @Test func silenceBeforeAndBehindTheHeaderIsBounded() async throws {
    try await withServer { request in
      request.path == "/never" ? .silence : .stall(Self.answer(Array("x".utf8), length: 9))
    } _: { (server) async throws in
      let transport = CurlTransport()
      defer { withExtendedLifetime(transport) {} }
      var limits = Self.limits
      limits.idle = .milliseconds(200)
      let late = await failure { () async throws(HTTPError) in
        _ = try await transport.open(HTTPRequest(url: "\(server.url)/never", timeout: .milliseconds(200)), limits)
      }
      #expect(late?.code == .timedOut)
      let stream = try await transport.open(HTTPRequest(url: server.url), limits)
      #expect(try await stream.next() == Array("x".utf8))
      let silent = await failure { () async throws(HTTPError) in _ = try await stream.next() }
      #expect(silent?.code == .timedOut && silent?.isTransient == true)
    }
  }

  @Test func cancellationEndsTheWaitAndTheTransfer() async throws {
    try await withServer { request in
      request.path == "/never" ? .silence : .stall(Self.answer(Array("x".utf8), length: 9))
    } _: { (server) async throws in
      let transport = PatientTransport()
      for path in ["/never", "/"] {
        let task = Task { () -> HTTPError? in
          await failure { () async throws(HTTPError) in
            let stream = try await transport.open(HTTPRequest(url: server.url + path), Self.limits)
            while try await stream.next() != nil {}
          }
        }
        #expect(await eventually { server.requests.contains { $0.path == path } })
        task.cancel()
        #expect(await task.value?.code == .cancelled)
      }
    }
  }

  @Test func transportThatIsFullRefuses() async throws {
    try await withServer { _ in
      .stall(Self.answer(Array("x".utf8), length: 9))
    } _: { (server) async throws in
      let transport = PatientTransport(CurlTransport(settings: CurlTransport.Settings(maximumRequests: 1)))
      let stream = try await transport.open(HTTPRequest(url: server.url), Self.limits)
      let refused = await failure { () async throws(HTTPError) in
        _ = try await transport.open(HTTPRequest(url: server.url), Self.limits)
      }
      #expect(refused?.code == .overloaded)
      _ = stream
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCTransport

@Suite struct CurlTransportTests {
  private func failure(
    _ request: HTTPRequest, _ transport: any HTTPTransport = CurlTransport()
  ) async throws -> HTTPError {
    do throws(HTTPError) {
      let response = try await transport.send(request)
      Issue.record("answered with \(response.status)")
      return HTTPError(.other, url: "", detail: "")
    } catch {
      return error
    }
  }

  @Test func answersOfEveryMethodAndStatus() async throws {
    try await withServer { request in
      .answer(request.path == "/500" ? 500 : 200, ["X-Method": request.method, "Date": "now "], body: request.bodyText)
    } _: { (server) async throws in
      let transport = PatientTransport()
      let get = try await transport.send(HTTPRequest(url: "\(server.url)/a?b=c", headers: ["X-Empty": "", "X-A": "b"]))
      #expect(get.status == 200)
      #expect(get.headers["x-method"] == "GET")
      #expect(get.headers["DATE"] == "now")
      #expect(get.body.isEmpty)
      let post = try await transport.send(HTTPRequest(method: .post, url: server.url, body: Array("x=1".utf8)))
      #expect(post.body == Array("x=1".utf8))
      let put = try await transport.send(HTTPRequest(method: .put, url: "\(server.url)/500"))
      #expect(put.status == 500)
      #expect(put.headers["X-Method"] == "PUT")
      let seen = server.requests
      #expect(seen.map(\.path) == ["/a?b=c", "/", "/500"])
      #expect(seen[0].headers["x-empty"]?.isEmpty == true)
      #expect(seen[0].headers["x-a"] == "b")
      #expect(seen[1].headers["content-length"] == "3")
      #expect(seen[1].headers["content-type"] == nil)
      #expect(seen[2].headers["content-length"] == "0")
      #expect(seen.allSatisfy { $0.headers["expect"] == nil && $0.headers["accept"] == nil })
    }
  }

  /// Trailer fields after a chunked body. They do not become header fields, and the answer is complete.
  @Test(arguments: ["X-Sum: 1\r\n", "X-Sum: 1\r\nX-Method: other\r\n", ""])
  func trailersEndAnAnswerToo(_ trailers: String) async throws {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Method: own\r\n\r\n"
    try await withServer { request in
      .raw(Array((head + (request.path == "/empty" ? "" : "3\r\nabc\r\n") + "0\r\n\(trailers)\r\n").utf8))
    } _: { (server) async throws in
      let transport = PatientTransport()
      for (path, body) in [("/", "abc"), ("/empty", "")] {
        let answer = try await transport.send(HTTPRequest(url: server.url + path))
        #expect(answer.status == 200 && answer.body == Array(body.utf8))
        #expect(answer.headers["X-Method"] == "own" && answer.headers["X-Sum"] == nil)
      }
    }
  }

  @Test func connectionIsReused() async throws {
    try await withServer { _ in
      .text("x")
    } _: { (server) async throws in
      let transport = PatientTransport()
      for _ in 0..<20 { _ = try await transport.send(HTTPRequest(url: server.url)) }
      #expect(server.acceptedConnections == 1)
    }
  }

  /// A server that closes a kept-alive connection after it got a request may have acted on it.
  @Test(arguments: [(true, 3), (false, 2)])
  func requestThatMustNotRepeatIsSentOnce(_ isRepeatable: Bool, _ count: Int) async throws {
    let counter = Counter()
    try await withServer { _ in
      counter.next() == 2 ? .raw([]) : .text("x")
    } _: { (server) async throws in
      let transport = PatientTransport()
      var request = HTTPRequest(method: .post, url: server.url, body: Array("a=b".utf8), isRepeatable: isRepeatable)
      #expect(try await transport.send(request).status == 200)
      if isRepeatable {
        #expect(try await transport.send(request).status == 200)
      } else {
        let error = try await failure(request, transport)
        #expect(error.code == .interrupted && !error.isUnsent && error.isTransient)
      }
      #expect(server.requests.map(\.bodyText) == Array(repeating: "a=b", count: count))
      request.body = Array(repeating: UInt8(ascii: "y"), count: 100_000)
      #expect(try await transport.send(request).status == 200)
      #expect(server.requests.last?.body == request.body)
    }
  }

  @Test func manyAtOnceShareFewConnections() async throws {
    try await withServer {
      .text($0.path)
    } _: { (server) async throws in
      let transport = PatientTransport(CurlTransport(settings: .init(connectionsPerHost: 4)))
      try await withThrowingTaskGroup(of: Void.self) { (group) async throws in
        for number in 0..<100 {
          group.addTask {
            let response = try await transport.send(HTTPRequest(url: "\(server.url)/\(number)"))
            #expect(String(decoding: response.body, as: UTF8.self) == "/\(number)")
          }
        }
        try await group.waitForAll()
      }
      #expect(server.acceptedConnections <= 4)
    }
  }

  @Test func queueIsBounded() async throws {
    try await withServer { _ in
      .silence
    } _: { (server) async throws in
      let transport = CurlTransport(settings: .init(maximumRequests: 2))
      try await withThrowingTaskGroup(of: HTTPError.Code.self) { (group) async throws in
        for _ in 0..<3 {
          group.addTask { try await failure(HTTPRequest(url: server.url, timeout: .seconds(20)), transport).code }
        }
        #expect(try await group.next() == .overloaded)
        group.cancelAll()
        #expect(try await group.next() == .cancelled)
        #expect(try await group.next() == .cancelled)
      }
    }
  }

  @Test func deadlineEndsASilentServer() async throws {
    try await withServer { request in
      request.path == "/first" ? .text("x") : .silence
    } _: { (server) async throws in
      let transport = CurlTransport()
      // The set-up for the first request must not count for the time of the next one.
      _ = try await transport.send(HTTPRequest(url: "\(server.url)/first", timeout: .seconds(60)))
      do throws(HTTPError) {
        _ = try await transport.send(HTTPRequest(url: server.url, timeout: .seconds(1)))
        Issue.record("an answer of a silent server")
      } catch {
        #expect(error.code == .timedOut && error.isTransient && !error.isUnsent)
      }
    }
  }

  @Test func deadlineEndsASlowBody() async throws {
    try await withServer { _ in
      .stall(Array("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".utf8))
    } _: { (server) async throws in
      let error = try await failure(HTTPRequest(url: server.url, timeout: .milliseconds(200)))
      #expect(error.code == .timedOut)
    }
  }

  @Test func cancelledTaskEndsTheTransfer() async throws {
    try await withServer { _ in
      .silence
    } _: { (server) async throws in
      let transport = CurlTransport()
      let task = Task { try await failure(HTTPRequest(url: server.url, timeout: .seconds(60)), transport) }
      #expect(await eventually { server.requests.count == 1 })
      task.cancel()
      #expect(try await task.value.code == .cancelled)
      // The transport keeps working.
      let early = Task { try await failure(HTTPRequest(url: server.url, timeout: .seconds(60)), transport) }
      early.cancel()
      #expect(try await early.value.code == .cancelled)
    }
  }

  @Test func goingAwayEndsWhatIsUnderWay() async throws {
    try await withServer { _ in
      .silence
    } _: { (server) async throws in
      var transport: CurlTransport? = CurlTransport()
      // The task holds the request's only other reference to the loop, in `send`, so cancellation tells it of the end.
      let task = Task { [transport] in
        try await failure(HTTPRequest(url: server.url, timeout: .seconds(60)), transport ?? CurlTransport())
      }
      #expect(await eventually { server.requests.count == 1 })
      transport = nil
      task.cancel()
      #expect(try await task.value.code == .cancelled)
    }
  }

  @Test func bodyIsBounded() async throws {
    try await withServer {
      .answer(200, body: String(repeating: "x", count: Int($0.path.dropFirst()) ?? 0))
    } _: { (server) async throws in
      let transport = PatientTransport()
      let fits = try await transport.send(HTTPRequest(url: "\(server.url)/1000", maximumBodySize: 1000))
      #expect(fits.body.count == 1000)
      let error = try await failure(HTTPRequest(url: "\(server.url)/1001", maximumBodySize: 1000), transport)
      #expect(error.code == .bodyTooLarge)
      #expect(!error.isTransient)
    }
  }

  @Test func headerIsBounded() async throws {
    try await withServer { _ in
      .answer(200, ["X": String(repeating: "x", count: 5000)])
    } _: { (server) async throws in
      let transport = PatientTransport(CurlTransport(settings: .init(maximumHeaderSize: 4096)))
      #expect(try await failure(HTTPRequest(url: server.url), transport).code == .headersTooLarge)
    }
  }

  @Test(arguments: [
    ("garbage\r\n\r\n", HTTPError.Code.malformed), ("", .interrupted), ("HTTP/1.1 200 OK\r\nContent-Le", .interrupted),
    ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", .interrupted), ("HTTP/1.1 xx\r\n\r\n", .malformed),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", .interrupted),
    ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", .malformed),
  ])
  func badServers(_ bytes: String, _ code: HTTPError.Code) async throws {
    try await withServer { _ in
      .raw(Array(bytes.utf8))
    } _: { (server) async throws in
      let error = try await failure(HTTPRequest(url: server.url, timeout: .seconds(60)))
      #expect(error.code == code, "\(error) (libcurl \(error.curlCode))")
      #expect(error.isTransient)
      #expect(!error.isUnsent)
    }
  }

  @Test func nobodyListens() async throws {
    let port = try await withServer { _ in
      .silence
    } _: {
      $0.port
    }
    let error = try await failure(HTTPRequest(url: "http://127.0.0.1:\(port)/"), PatientTransport())
    #expect(error.code == .unconnected)
    #expect(error.isTransient && error.isUnsent)
  }

  @Test func plainServerBehindHTTPS() async throws {
    try await withServer { _ in
      .text("x")
    } _: { (server) async throws in
      let url = "https://127.0.0.1:\(server.port)/"
      let error = try await failure(HTTPRequest(url: url, connectTimeout: .milliseconds(200)))
      #expect(error.code == .timedOut)
      #expect(error.isUnsent)
    }
  }

  @Test func redirectsAreNotFollowedUnlessAsked() async throws {
    try await withServer {
      $0.path == "/a" ? .answer(302, ["Location": "/b"]) : .text("b")
    } _: { (server) async throws in
      let transport = PatientTransport()
      #expect(try await transport.send(HTTPRequest(url: "\(server.url)/a")).status == 302)
      let followed = try await transport.send(HTTPRequest(url: "\(server.url)/a", redirects: 1))
      #expect(followed.status == 200)
      #expect(followed.headers["Location"] == nil)
    }
  }

  @Test func proxyIsUsedOnlyWhereAllowed() async throws {
    try await withServer { _ in
      .text("proxy")
    } _: { (proxy) async throws in
      try await withServer { _ in
        .text("origin")
      } _: { (origin) async throws in
        let transport = PatientTransport(
          CurlTransport(settings: .init(proxy: ProxySettings(environment: ["http_proxy": proxy.url]))))
        let by = try await transport.send(HTTPRequest(url: "http://example.invalid/x"))
        #expect(by.body == Array("proxy".utf8))
        #expect(proxy.requests.first?.path == "http://example.invalid/x")
        let direct = try await transport.send(HTTPRequest(url: origin.url, useProxy: false))
        #expect(direct.body == Array("origin".utf8))
        let excepting = PatientTransport(
          CurlTransport(
            settings: .init(proxy: ProxySettings(environment: ["HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"]))))
        #expect(try await excepting.send(HTTPRequest(url: origin.url)).body == Array("origin".utf8))
      }
    }
  }

  @Test(arguments: [
    HTTPRequest(url: "file:///etc/passwd"), HTTPRequest(url: "ftp://x/"), HTTPRequest(url: "http://a b/"),
    HTTPRequest(url: "http://x/\r\nX: y"), HTTPRequest(url: "http://x/", headers: ["A": "b\r\nC: d"]),
    HTTPRequest(url: "http://x/", headers: ["A:": "b"]), HTTPRequest(url: "http://x/", headers: ["": "b"]),
  ])
  func requestsThatAreNotSent(_ request: HTTPRequest) async throws {
    #expect(try await failure(request).code == .invalidRequest)
  }

  @Test func errorsKeepSecretsOut() {
    let error = HTTPError(.other, url: "https://user:secret@host:1/path?token=secret#secret", detail: "x")
    #expect("\(error)" == "https://host:1/path: x")
    #expect(HTTPError.redacted("http://h/a@b") == "http://h/a@b")
    #expect(HTTPError.redacted("nonsense") == "nonsense")
  }
}

@Suite struct RetryPolicyTests {
  private struct Failure: Error {}

  @Test func waitsGrowToTheirCap() {
    let policy = RetryPolicy(attempts: 9, base: .milliseconds(100), cap: .seconds(1))
    let bounds = (1...6).map { policy.bound(after: $0) }
    #expect(
      bounds == [
        .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .seconds(1), .seconds(1),
      ])
    #expect(policy.delay(after: 3, random: 0.5) == .milliseconds(200))
    #expect(policy.bound(after: 10_000) == .seconds(1))
  }

  @Test func stopsAtAttemptsDeadlineAndOtherErrors() async {
    let policy = RetryPolicy(attempts: 4, base: .seconds(1), cap: .seconds(8))
    func attempts(deadline: Duration?, retryable: Bool) async -> Int {
      let time = ManualTime()
      let counter = Counter()
      let end = deadline.map { time.source.now().advanced(by: $0) }
      do throws(Failure) {
        try await policy.run(time: time.source, deadline: end, retryable: { _ in retryable }) {
          (_) async throws(Failure) -> Void in
          counter.next()
          throw Failure()
        }
      } catch {}
      return counter.value
    }
    #expect(await attempts(deadline: nil, retryable: true) == 4)
    #expect(await attempts(deadline: nil, retryable: false) == 1)
    // Waits of 0.5 s and 1 s: the second one would end at 1.5 s.
    #expect(await attempts(deadline: .seconds(1), retryable: true) == 2)
  }
}

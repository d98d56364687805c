// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
package import VPCModel
package import VPCTransport

/// Calls EC2 by its query protocol. The actions are in extensions, one file for each kind of object.
///
/// What is tried again within one call, and what is not:
/// - describes: whatever is transient, throttling included, with growing, jittered waits;
/// - mutating actions that may safely be done twice (by client token, or by what they do): when no answer came, or a 5xx.
///   Not throttling: the caller keeps one budget for each kind of action, and must know;
/// - other mutating actions: only when it is certain that EC2 has not seen the request;
/// - anything, once, after the clock's error was corrected by the answer's Date, or after credentials that EC2 refused
///   were replaced.
package final class EC2Client: Sendable {
  /// One request that was sent, told to the observer when its answer is there.
  package struct Observation: Sendable, Hashable {
    package let action: String
    package let duration: Duration
    /// Nil for success.
    package let error: EC2Error.Code?
    package let status: Int?
  }

  /// What one call may do again.
  enum Repetition: Sendable {
    case describe
    case idempotent
    case once
  }

  private let transport: any HTTPTransport
  private let endpoint: ServiceEndpoint
  private let provider: CredentialsProvider
  private let userAgent: String
  private let timeout: Duration
  private let time: TimeSource
  private let wallClock: @Sendable () -> UTCTime
  private let observer: @Sendable (Observation) -> Void
  /// Seconds to add to our clock so that it agrees with EC2's.
  private let clockCorrection = Mutex<Int64>(0)

  /// - Parameters:
  ///   - userAgent: `amazon-vpc-cni-k8s/VERSION`: what people's policies and trails look for.
  ///   - timeout: for one request, from sending it to the end of its answer.
  ///   - observer: called after every request, on any thread; must not wait.
  package init(
    transport: any HTTPTransport, endpoint: ServiceEndpoint, credentials: CredentialsProvider, userAgent: String,
    timeout: Duration = .seconds(10), time: TimeSource = .system,
    wallClock: @escaping @Sendable () -> UTCTime = { UTCTime.now },
    observer: @escaping @Sendable (Observation) -> Void = { _ in }
  ) {
    self.transport = transport
    self.endpoint = endpoint
    provider = credentials
    self.userAgent = userAgent
    self.timeout = timeout
    self.time = time
    self.wallClock = wallClock
    self.observer = observer
  }

  /// A text for `clientToken`: 32 random hex digits, new each time.
  package static func clientToken() -> String {
    var generator = SystemRandomNumberGenerator()
    return HexDigits.encode((0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) })
  }

  /// Makes one call and gives the root of its answer.
  func call(_ action: String, _ parameters: EC2Parameters, _ repetition: Repetition) async throws(EC2Error) -> EC2Answer
  {
    let body = parameters.body
    let policy =
      switch repetition {
      case .describe: RetryPolicy(attempts: 6, base: .milliseconds(250), cap: .seconds(5))
      case .idempotent, .once: RetryPolicy(attempts: 3, base: .milliseconds(100), cap: .seconds(1))
      }
    return try await policy.run(
      time: time, deadline: time.now().advanced(by: .seconds(30)),
      retryable: { EC2Client.mayRepeat($0, repetition) }
    ) { (_) async throws(EC2Error) in
      try await self.attempt(action, body, repetition)
    }
  }

  private static func mayRepeat(_ error: EC2Error, _ repetition: Repetition) -> Bool {
    switch repetition {
    case .describe: error.isTransient
    case .idempotent: error.isTransient && !error.isThrottling
    case .once: error.isTransient && error.isUnsent
    }
  }

  /// One request, and a second one where the first showed that our clock or our credentials are out of date.
  private func attempt(
    _ action: String, _ body: [UInt8], _ repetition: Repetition
  ) async throws(EC2Error) -> EC2Answer {
    let credentials = try await credentials(action)
    let first = try await send(action, body, repetition, credentials)
    switch first.result {
    case .success(let answer): return answer
    case .failure(let error):
      guard try await recover(from: error, first.response, credentials) else { throw error }
    }
    return try await send(action, body, repetition, try await self.credentials(action)).result.get()
  }

  private func credentials(_ action: String) async throws(EC2Error) -> Credentials {
    do {
      return try await provider.credentials()
    } catch {
      throw EC2Error(action: action, code: .noCredentials, isUnsent: true, cause: error)
    }
  }

  private struct Exchange {
    let response: HTTPResponse
    let result: Result<EC2Answer, EC2Error>
  }

  private func send(
    _ action: String, _ body: [UInt8], _ repetition: Repetition, _ credentials: Credentials
  ) async throws(EC2Error) -> Exchange {
    var request = HTTPRequest(
      method: .post, url: "\(endpoint.url)/",
      headers: ["Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": userAgent],
      body: body, timeout: timeout, connectTimeout: .seconds(5), maximumBodySize: 8 << 20,
      isRepeatable: repetition != .once)
    let now = wallClock().advanced(by: clockCorrection.withLock { $0 })
    endpoint.signer.sign(&request, with: credentials, at: now)
    let start = time.now()
    do {
      let response = try await transport.send(request)
      let result = EC2Client.read(response, action: action)
      observe(action, since: start, status: response.status, result)
      return Exchange(response: response, result: result)
    } catch {
      let failure = EC2Error(action: action, code: .noAnswer, isUnsent: error.isUnsent, cause: error)
      observe(action, since: start, status: nil, .failure(failure))
      throw failure
    }
  }

  private func observe(
    _ action: String, since start: ContinuousClock.Instant, status: Int?, _ result: Result<EC2Answer, EC2Error>
  ) {
    var code: EC2Error.Code?
    if case .failure(let error) = result { code = error.code }
    let duration = start.duration(to: time.now())
    observer(Observation(action: action, duration: duration, error: code, status: status))
  }

  /// True where the request is worth sending again at once, because what made it fail has been put right.
  private func recover(
    from error: EC2Error, _ response: HTTPResponse, _ used: Credentials
  ) async throws(EC2Error) -> Bool {
    if EC2Client.clockCodes.contains(error.code.text),
      let theirs = response.headers["Date"].flatMap({ UTCTime(httpDate: $0) })
    {
      let correction = theirs.seconds(since: wallClock())
      let old = clockCorrection.withLock { $0 }
      // Signatures are good for five minutes around EC2's time; a small difference was not the reason.
      if abs(correction - old) > 240 {
        clockCorrection.withLock { $0 = correction }
        return true
      }
    }
    guard EC2Client.staleCodes.contains(error.code.text) else { return false }
    await provider.invalidate(used)
    return try await credentials(error.action) != used
  }

  private static let clockCodes: Set<String> = [
    "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture", "SignatureDoesNotMatch", "AuthFailure",
    "InvalidSignatureException",
  ]

  private static let staleCodes: Set<String> = [
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "InvalidClientTokenId",
    "UnrecognizedClientException",
  ]

  /// What a complete HTTP answer says.
  static func read(_ response: HTTPResponse, action: String) -> Result<EC2Answer, EC2Error> {
    let document: XMLElement
    do {
      document = try XMLParser.parse(response.body)
    } catch {
      // A load balancer's own page, say: the status is then all that can be told.
      let code = response.status == 200 ? EC2Error.Code.malformedAnswer : EC2Error.Code("HTTP\(response.status)")
      return .failure(EC2Error(action: action, code: code, status: response.status, cause: error))
    }
    guard response.status == 200, document.name == "\(action)Response" else {
      return .failure(failure(document, response, action))
    }
    return .success(EC2Answer(document, action: action))
  }

  private static func failure(_ document: XMLElement, _ response: HTTPResponse, _ action: String) -> EC2Error {
    let error = document.firstDescendant("Error")
    let id = document.firstDescendant("RequestID") ?? document.firstDescendant("RequestId")
    let fallback = response.status == 200 ? "MalformedAnswer" : "HTTP\(response.status)"
    return EC2Error(
      action: action, code: EC2Error.Code(String((error?.text("Code") ?? fallback).prefix(128))),
      message: error?.text("Message") ?? "the answer is a \(document.name.prefix(64))",
      requestID: id.map { String($0.text.prefix(64)) }, status: response.status)
  }
}

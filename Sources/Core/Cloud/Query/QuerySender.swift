// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCModel
internal import VPCTransport

/// Sends signed calls of AWS's query protocol to one endpoint. If the first answer shows a wrong clock or outdated
/// credentials, it corrects them and retries once. Shared by all services; their clients interpret the answers.
final class QuerySender: Sendable {
  /// How one request ended, and how long it took.
  struct Outcome: Sendable {
    let result: Result<HTTPResponse, HTTPError>
    let duration: Duration
    /// The clock correction that the request was signed with.
    let signedWith: Int64
  }

  private let transport: any HTTPTransport
  private let endpoint: ServiceEndpoint
  private let provider: CredentialsProvider
  private let userAgent: String
  private let timeout: Duration
  private let time: TimeSource
  private let wallClock: @Sendable () -> UTCTime
  /// Seconds to add to the local clock so that signatures match the service's clock; changed only by a refusal.
  private let clockCorrection = Mutex<Int64>(0)
  /// Seconds from the local clock to the service's, by the Date of its last answer.
  private let clockOffset = Mutex<Int64>(0)

  init(
    transport: any HTTPTransport, endpoint: ServiceEndpoint, credentials: CredentialsProvider, userAgent: String,
    timeout: Duration, time: TimeSource, wallClock: @escaping @Sendable () -> UTCTime
  ) {
    self.transport = transport
    self.endpoint = endpoint
    provider = credentials
    self.userAgent = userAgent
    self.timeout = timeout
    self.time = time
    self.wallClock = wallClock
  }

  /// The time by the service's clock, from its answers: the one clock that all nodes share.
  var serviceTime: UTCTime { wallClock().advanced(by: clockOffset.withLock { $0 }) }

  /// One request, and a second one if the first shows a wrong clock or outdated credentials.
  ///
  /// - Parameters:
  ///   - isRepeatable: false if libcurl must not resend it either.
  ///   - code: the service's error code of a failure.
  ///   - noCredentials: the failure without credentials.
  ///   - read: interprets an outcome; called for each request.
  func attempt<Answer: Sendable, Failure: Error>(
    _ body: [UInt8], isRepeatable: Bool, code: (Failure) -> String, noCredentials: (CredentialsError) -> Failure,
    read: (Outcome) -> Result<Answer, Failure>
  ) async throws(Failure) -> Answer {
    let used = try await credentials(noCredentials)
    let first = await send(body, isRepeatable: isRepeatable, used)
    let result = read(first)
    guard case .failure(let failure) = result, case .success(let response) = first.result else {
      return try result.get()
    }
    guard try await recover(from: code(failure), response, signedWith: first.signedWith, used, noCredentials) else {
      throw failure
    }
    return try read(await send(body, isRepeatable: isRepeatable, try await credentials(noCredentials))).get()
  }

  private func credentials<Failure: Error>(
    _ noCredentials: (CredentialsError) -> Failure
  ) async throws(Failure) -> Credentials {
    do {
      return try await provider.credentials()
    } catch {
      throw noCredentials(error)
    }
  }

  private func send(_ body: [UInt8], isRepeatable: Bool, _ credentials: Credentials) async -> Outcome {
    var request = HTTPRequest(
      method: .post, url: "\(endpoint.url)/",
      headers: ["Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": userAgent],
      body: body, timeout: timeout, connectTimeout: .seconds(5), maximumBodySize: 8 << 20, isRepeatable: isRepeatable)
    let correction = clockCorrection.withLock { $0 }
    endpoint.signer.sign(&request, with: credentials, at: wallClock().advanced(by: correction))
    let start = time.now()
    let result: Result<HTTPResponse, HTTPError>
    do throws(HTTPError) {
      let response = try await transport.send(request)
      if let theirs = QuerySender.date(of: response) {
        let offset = theirs.seconds(since: wallClock())
        clockOffset.withLock { $0 = offset }
      }
      result = .success(response)
    } catch {
      result = .failure(error)
    }
    return Outcome(result: result, duration: start.duration(to: time.now()), signedWith: correction)
  }

  private static func date(of response: HTTPResponse) -> UTCTime? {
    response.headers["Date"].flatMap { UTCTime(httpDate: $0) }
  }

  /// True if the request should be resent at once, because the cause of its failure was corrected.
  private func recover<Failure: Error>(
    from code: String, _ response: HTTPResponse, signedWith: Int64, _ used: Credentials,
    _ noCredentials: (CredentialsError) -> Failure
  ) async throws(Failure) -> Bool {
    if QuerySender.clockCodes.contains(code), let theirs = QuerySender.date(of: response) {
      let correction = theirs.seconds(since: wallClock())
      // Signatures are valid for five minutes around the service's time; a smaller difference was not the cause. The
      // correction of this request counts: another call may have corrected the clock since.
      if abs(correction - signedWith) > 240 {
        clockCorrection.withLock { $0 = correction }
        return true
      }
    }
    guard QuerySender.staleCodes.contains(code) else { return false }
    await provider.invalidate(used)
    return try await credentials(noCredentials) != used
  }

  private static let clockCodes: Set<String> = [
    "RequestExpired", "RequestTimeTooSkewed", "RequestInTheFuture", "SignatureDoesNotMatch", "AuthFailure",
    "InvalidSignatureException",
  ]

  private static let staleCodes: Set<String> = [
    "ExpiredToken", "ExpiredTokenException", "RequestExpired", "AuthFailure", "InvalidClientTokenId",
    "UnrecognizedClientException",
  ]
}

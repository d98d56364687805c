// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
package import VPCTransport

/// Reads the EC2 instance metadata service.
///
/// It uses IMDSv2: a token is fetched by PUT, sent with every read, and renewed before it expires or after a 401. If
/// the token endpoint answers 403, 404 or 405, the service supports only IMDSv1, and later reads have no token. If the
/// PUT gets no answer, reads have no token for five minutes, then the PUT is retried: its answer has a hop limit that
/// reads do not have, so behind a bridge it can be lost while IMDSv1 still answers. The AWS SDKs behave the same way.
/// An instance that requires tokens then answers 401, and the error names the option to check.
package actor IMDSClient {
  /// What can be set.
  package struct Settings: Sendable, Hashable {
    /// Without a slash at the end.
    package var endpoint: String
    /// The requested lifetime of a token, 1…21600 s.
    package var tokenLifetimeSeconds: Int
    /// All attempts of one read end within this.
    package var deadline: Duration
    /// One attempt; the service is one hop away and answers in milliseconds.
    package var attemptTimeout: Duration
    package var retry: RetryPolicy
    /// AWS_EC2_METADATA_DISABLED: every read fails at once.
    package var isDisabled: Bool
    /// AWS_EC2_METADATA_V1_DISABLED: never read without a token.
    package var isVersion1Disabled: Bool

    package init(
      endpoint: String = "http://169.254.169.254", tokenLifetimeSeconds: Int = 21_600,
      deadline: Duration = .seconds(10), attemptTimeout: Duration = .seconds(1),
      retry: RetryPolicy = RetryPolicy(attempts: 4, base: .milliseconds(100), cap: .seconds(2)),
      isDisabled: Bool = false, isVersion1Disabled: Bool = false
    ) {
      self.endpoint = endpoint
      self.tokenLifetimeSeconds = tokenLifetimeSeconds
      self.deadline = deadline
      self.attemptTimeout = attemptTimeout
      self.retry = retry
      self.isDisabled = isDisabled
      self.isVersion1Disabled = isVersion1Disabled
    }

    /// Reads AWS_EC2_METADATA_SERVICE_ENDPOINT (before AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: `IPv4`, `IPv6`),
    /// AWS_EC2_METADATA_DISABLED and AWS_EC2_METADATA_V1_DISABLED.
    package init(environment: CloudEnvironment) throws(InvalidSetting) {
      self.init()
      if let text = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] {
        guard let url = EndpointURL(text) else {
          throw InvalidSetting(
            name: "AWS_EC2_METADATA_SERVICE_ENDPOINT", value: HTTPError.redacted(text), expected: "an http or https URL"
          )
        }
        endpoint = url.text
      } else {
        switch environment["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"]?.lowercased() {
        case nil, "ipv4": break
        case "ipv6": endpoint = "http://[fd00:ec2::254]"
        case let mode?:
          throw InvalidSetting(name: "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", value: mode, expected: "IPv4 or IPv6")
        }
      }
      isDisabled = try environment.flag("AWS_EC2_METADATA_DISABLED")
      isVersion1Disabled = try environment.flag("AWS_EC2_METADATA_V1_DISABLED")
    }
  }

  private enum Access {
    case token(String, renewAt: ContinuousClock.Instant)
    /// Until when reads have no token; nil: forever.
    case plain(until: ContinuousClock.Instant?)
  }

  private let transport: any HTTPTransport
  private let settings: Settings
  private let time: TimeSource
  private var access: Access?
  /// The one token request in progress, shared by all waiting callers.
  private var renewal: Task<Result<Access, IMDSError>, Never>?
  /// Why the last token request got no answer, for the error of a read refused without a token.
  private var lostToken: HTTPError?

  package init(transport: any HTTPTransport, settings: Settings = Settings(), time: TimeSource = .system) {
    self.transport = transport
    self.settings = settings
    self.time = time
  }

  /// The document at a path below `/latest/`, such as `meta-data/mac`.
  ///
  /// - Returns: the body; nil on 404, which means that the instance has no such item.
  /// - Throws: `IMDSError` after the attempts or the deadline of the settings.
  package func read(_ path: String, maximumSize: Int = 64 << 10) async throws(IMDSError) -> [UInt8]? {
    guard !settings.isDisabled else {
      throw IMDSError(.disabled, path: path, detail: "disabled by AWS_EC2_METADATA_DISABLED")
    }
    let deadline = time.now().advanced(by: settings.deadline)
    return try await settings.retry.run(time: time, deadline: deadline, retryable: \.isTransient) {
      (_) async throws(IMDSError) in
      try await self.attempt(path, maximumSize: maximumSize, deadline: deadline)
    }
  }

  private func attempt(
    _ path: String, maximumSize: Int, deadline: ContinuousClock.Instant
  ) async throws(IMDSError) -> [UInt8]? {
    var response = HTTPResponse(status: 401)
    // A 401 means that the service no longer knows the token (for example after a resume): it is renewed once.
    for round in 1...2 {
      let access = try await currentAccess(path)
      response = try await send(request(path, access, maximumSize: maximumSize, deadline: deadline), path: path)
      guard response.status == 401 else { break }
      if case .token(let used, _) = access, case .token(used, _)? = self.access { self.access = nil }
      if case .plain = access, round == 1 { self.access = nil }
    }
    switch response.status {
    case 200: return response.body
    case 404: return nil
    case 401: throw refused(path)
    default:
      throw IMDSError(.status, path: path, status: response.status, detail: "HTTP status \(response.status)")
    }
  }

  private func refused(_ path: String) -> IMDSError {
    let hint = "the instance requires tokens; "
    guard let lostToken else {
      return IMDSError(.tokenRefused, path: path, status: 401, detail: hint + "the one it gave is refused")
    }
    return IMDSError(
      .tokenRefused, path: path, status: 401, detail: hint + IMDSClient.hopLimitHint, cause: lostToken)
  }

  private static let hopLimitHint =
    "the request for one got no answer: if this process is not on the host's network, "
    + "the instance's metadata option HttpPutResponseHopLimit must be 2 or more"

  private func request(
    _ path: String, _ access: Access, maximumSize: Int, deadline: ContinuousClock.Instant
  ) -> HTTPRequest {
    var request = HTTPRequest(
      url: "\(settings.endpoint)/latest/\(path)", timeout: timeout(within: deadline),
      connectTimeout: settings.attemptTimeout, maximumBodySize: maximumSize, useProxy: false)
    if case .token(let token, _) = access { request.headers["X-aws-ec2-metadata-token"] = token }
    return request
  }

  private func timeout(within deadline: ContinuousClock.Instant) -> Duration {
    max(.milliseconds(1), min(settings.attemptTimeout, time.now().duration(to: deadline)))
  }

  private func send(_ request: HTTPRequest, path: String) async throws(IMDSError) -> HTTPResponse {
    do {
      return try await transport.send(request)
    } catch {
      throw IMDSError(.unreachable, path: path, detail: "no answer", cause: error)
    }
  }

  // MARK: token

  private func currentAccess(_ path: String) async throws(IMDSError) -> Access {
    switch access {
    case .token(_, let renewAt)? where time.now() < renewAt: break
    case .plain(nil)?: break
    case .plain(let until?)? where time.now() < until: break
    default: access = nil
    }
    if let access { return access }
    let task: Task<Result<Access, IMDSError>, Never>
    if let renewal {
      task = renewal
    } else {
      // Bounded by the request's timeout and kept until it ends; it continues if one caller is cancelled.
      task = Task { await self.fetchToken() }
      renewal = task
    }
    let result = await task.value
    if renewal == task {
      renewal = nil
      if case .success(let fetched) = result { access = fetched }
    }
    return try result.get()
  }

  private func fetchToken() async -> Result<Access, IMDSError> {
    let path = "api/token"
    let request = HTTPRequest(
      method: .put, url: "\(settings.endpoint)/latest/\(path)",
      headers: ["X-aws-ec2-metadata-token-ttl-seconds": String(settings.tokenLifetimeSeconds)],
      timeout: settings.attemptTimeout, connectTimeout: settings.attemptTimeout, maximumBodySize: 4096, useProxy: false)
    let response: HTTPResponse
    do {
      response = try await transport.send(request)
    } catch {
      return lost(error, path: path)
    }
    switch response.status {
    case 200: return accept(response, path: path)
    case 403...405 where !settings.isVersion1Disabled: return .success(.plain(until: nil))
    default:
      return .failure(
        IMDSError(.status, path: path, status: response.status, detail: "HTTP status \(response.status)"))
    }
  }

  private func accept(_ response: HTTPResponse, path: String) -> Result<Access, IMDSError> {
    let isUsable = (1...1024).contains(response.body.count) && response.body.allSatisfy { (0x21...0x7e).contains($0) }
    guard isUsable else {
      return .failure(
        IMDSError(.malformed, path: path, status: 200, detail: "\(response.body.count) bytes that are not a token"))
    }
    // The lifetime that the service granted, if it says so.
    let header = response.headers["X-aws-ec2-metadata-token-ttl-seconds"].flatMap { Int($0) }
    let lifetime = min(max(header ?? settings.tokenLifetimeSeconds, 1), 21_600)
    lostToken = nil
    // Renewed when a twentieth of its lifetime is left, so that it does not expire during a read.
    let renewAt = time.now().advanced(by: .seconds(lifetime) * 0.95)
    return .success(.token(String(decoding: response.body, as: UTF8.self), renewAt: renewAt))
  }

  private func lost(_ error: HTTPError, path: String) -> Result<Access, IMDSError> {
    // Refused or unreachable: reads would fail too. Connected and then silent: the answer may be lost on its way.
    guard error.code == .timedOut, !error.isUnsent else {
      return .failure(IMDSError(.unreachable, path: path, detail: "no answer", cause: error))
    }
    lostToken = error
    guard !settings.isVersion1Disabled else {
      return .failure(IMDSError(.unreachable, path: path, detail: IMDSClient.hopLimitHint, cause: error))
    }
    return .success(.plain(until: time.now().advanced(by: .seconds(300))))
  }
}

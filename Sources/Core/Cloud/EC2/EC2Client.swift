// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCSystem
package import VPCTransport

/// Calls EC2 by its query protocol. The actions are in extensions, one file for each kind of object.
///
/// What is retried within one call:
/// - describes: whatever is transient, throttling included, with growing, jittered waits;
/// - mutating actions that may safely be done twice (by client token, or by what they do): when no answer came, or a 5xx.
///   Not throttling: the caller keeps one budget for each kind of action, and must know;
/// - other mutating actions: only when it is certain that EC2 has not seen the request;
/// - anything, once, after the clock's error was corrected by the answer's Date, or after credentials that EC2 refused
///   were replaced.
package final class EC2Client: Sendable {
  /// One sent request, reported to the observer when it is answered.
  package struct Observation: Sendable, Hashable {
    package let action: String
    package let duration: Duration
    /// Nil for success.
    package let error: EC2Error.Code?
    package let status: Int?
  }

  /// Which retries one call allows.
  enum Repetition: Sendable {
    case describe
    case idempotent
    case once
  }

  private let sender: QuerySender
  private let time: TimeSource
  private let observer: @Sendable (Observation) -> Void

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
    sender = QuerySender(
      transport: transport, endpoint: endpoint, credentials: credentials, userAgent: userAgent, timeout: timeout,
      time: time, wallClock: wallClock)
    self.time = time
    self.observer = observer
  }

  /// The time by EC2's clock, derived from its responses; by this machine's before the first.
  ///
  /// Times that nodes exchange through EC2 (an ENI's creation time) use this clock: the nodes' clocks may differ.
  package var serviceTime: UTCTime { sender.serviceTime }

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

  private func attempt(
    _ action: String, _ body: [UInt8], _ repetition: Repetition
  ) async throws(EC2Error) -> EC2Answer {
    try await sender.attempt(
      body, isRepeatable: repetition != .once, code: { (error: EC2Error) in error.code.text },
      noCredentials: { EC2Error(action: action, code: .noCredentials, isUnsent: true, cause: $0) },
      read: { read($0, action: action) })
  }

  /// The result of one request, for the observer.
  private func read(_ outcome: QuerySender.Outcome, action: String) -> Result<EC2Answer, EC2Error> {
    let result: Result<EC2Answer, EC2Error>
    var status: Int?
    switch outcome.result {
    case .success(let response):
      status = response.status
      result = EC2Client.read(response, action: action)
    case .failure(let error):
      result = .failure(EC2Error(action: action, code: .noAnswer, isUnsent: error.isUnsent, cause: error))
    }
    var code: EC2Error.Code?
    if case .failure(let error) = result { code = error.code }
    observer(Observation(action: action, duration: outcome.duration, error: code, status: status))
    return result
  }

  /// What a complete HTTP answer says.
  static func read(_ response: HTTPResponse, action: String) -> Result<EC2Answer, EC2Error> {
    let document: XMLElement
    do {
      document = try XMLParser.parse(response.body)
    } catch {
      // For example a load balancer's error page: only the status is known then.
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

extension EC2Client {
  /// The result of a dry run.
  package enum Permission: Sendable, Hashable {
    case granted
    case denied
    /// EC2 did not decide; with its message.
    case unknown(String)
  }

  /// Asks EC2 whether it would allow a call: the same call with DryRun, which EC2 checks but does not execute.
  ///
  /// Not every action supports this: AssignPrivateIpAddresses and UnassignPrivateIpAddresses refuse the parameter.
  ///
  /// - Parameter fields: of the call, by name.
  /// Source: DryRun of each action in the EC2 API Reference: DryRunOperation for "yes", UnauthorizedOperation for "no".
  package func dryRun(_ action: String, fields: [(name: String, value: String)]) async -> Permission {
    var parameters = EC2Parameters(action: action)
    for field in fields { parameters.set(field.name, field.value) }
    parameters.set("DryRun", true)
    do throws(EC2Error) {
      _ = try await call(action, parameters, .once)
      // If EC2 ignores DryRun, the call was executed; none of the calls used here does harm.
      return .granted
    } catch {
      if error.code.text == "DryRunOperation" { return .granted }
      return error.isMissingPermission ? .denied : .unknown("\(error)")
    }
  }
}

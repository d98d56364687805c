// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCSystem
package import VPCTransport

/// Calls CloudWatch by its query protocol.
///
/// PutMetricData has no idempotency token: after a lost answer the data may be counted twice. It is retried anyway, as
/// in the AWS SDKs, since a gap is worse than a rare double count.
package struct CloudWatchClient: Sendable {
  /// Data of one call. The service accepts 1,000; amazon-vpc-cni-k8s sends 20, and policies and alarms on calls may
  /// depend on it.
  package static let batchLimit = 20
  /// Maximum size of a call's body in bytes, well below the service's 1 MB.
  package static let bodyLimit = 256 << 10

  private let sender: QuerySender
  private let time: TimeSource

  /// - Parameter timeout: for one request, from sending it to the end of its answer.
  package init(
    transport: any HTTPTransport, endpoint: ServiceEndpoint, credentials: CredentialsProvider, userAgent: String,
    timeout: Duration = .seconds(10), time: TimeSource = .system,
    wallClock: @escaping @Sendable () -> UTCTime = { UTCTime.now }
  ) {
    sender = QuerySender(
      transport: transport, endpoint: endpoint, credentials: credentials, userAgent: userAgent, timeout: timeout,
      time: time, wallClock: wallClock)
    self.time = time
  }

  /// PutMetricData, tried up to three times within 30 s for transient failures.
  ///
  /// - Parameter data: at most `batchLimit`.
  package func putMetricData(_ data: [MetricDatum], namespace: String) async throws(CloudWatchError) {
    let action = "PutMetricData"
    guard !data.isEmpty else { return }
    let body = CloudWatchClient.body(action, data, namespace: namespace)
    guard data.count <= CloudWatchClient.batchLimit, body.count <= CloudWatchClient.bodyLimit else {
      throw CloudWatchError(
        action: action, code: "RequestEntityTooLarge",
        message: "\(data.count) data in \(body.count) bytes are more than one call may hold")
    }
    let policy = RetryPolicy(attempts: 3, base: .milliseconds(250), cap: .seconds(5))
    try await policy.run(
      time: time, deadline: time.now().advanced(by: .seconds(30)), retryable: \.isTransient
    ) { (_) async throws(CloudWatchError) in
      try await sender.attempt(
        body, isRepeatable: true, code: \.code,
        noCredentials: { CloudWatchError(action: action, code: "NoCredentials", cause: $0) },
        read: { CloudWatchClient.read($0, action: action) })
    }
  }

  static func body(_ action: String, _ data: [MetricDatum], namespace: String) -> [UInt8] {
    var fields = [
      (name: "Action", value: action), (name: "Version", value: "2010-08-01"), (name: "Namespace", value: namespace),
    ]
    for (index, datum) in data.enumerated() { fields += datum.fields(index + 1) }
    return Array(PercentEncoding.form(fields).utf8)
  }

  private static func read(_ outcome: QuerySender.Outcome, action: String) -> Result<Void, CloudWatchError> {
    let response: HTTPResponse
    switch outcome.result {
    case .success(let answer): response = answer
    case .failure(let error): return .failure(CloudWatchError(action: action, code: "NoAnswer", cause: error))
    }
    let document: XMLElement
    do {
      document = try XMLParser.parse(response.body, limits: XMLParser.Limits(size: 1 << 20, elements: 10_000))
    } catch {
      // For example a proxy's error page: only the status is known then.
      let code = response.status == 200 ? "MalformedAnswer" : "HTTP\(response.status)"
      return .failure(CloudWatchError(action: action, code: code, status: response.status, cause: error))
    }
    guard response.status == 200, document.name == "\(action)Response" else {
      let error = document.firstDescendant("Error")
      let id = document.firstDescendant("RequestId") ?? document.firstDescendant("RequestID")
      let fallback = response.status == 200 ? "MalformedAnswer" : "HTTP\(response.status)"
      return .failure(
        CloudWatchError(
          action: action, code: String((error?.text("Code") ?? fallback).prefix(128)),
          message: error?.text("Message") ?? "the answer is a \(document.name.prefix(64))",
          requestID: id.map { String($0.text.prefix(64)) }, status: response.status))
    }
    return .success(())
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCSystem
package import VPCTransport

/// Asks the Security Token Service for the credentials of a role.
package struct STSClient: Sendable {
  private let transport: any HTTPTransport
  private let endpoint: ServiceEndpoint
  private let time: TimeSource
  private let wallClock: @Sendable () -> UTCTime
  private let userAgent: String
  private let timeout: Duration
  private let retry = RetryPolicy(attempts: 4, base: .milliseconds(200), cap: .seconds(3))

  package init(
    transport: any HTTPTransport, endpoint: ServiceEndpoint, userAgent: String, timeout: Duration = .seconds(10),
    time: TimeSource = .system, wallClock: @escaping @Sendable () -> UTCTime = { UTCTime.now }
  ) {
    self.transport = transport
    self.endpoint = endpoint
    self.userAgent = userAgent
    self.timeout = timeout
    self.time = time
    self.wallClock = wallClock
  }

  /// AssumeRoleWithWebIdentity, which is not signed: the token is the proof.
  package func assumeRole(
    _ role: String, webIdentityToken: String, sessionName: String
  ) async throws(CredentialsError) -> Credentials {
    let fields = [
      ("Action", "AssumeRoleWithWebIdentity"), ("Version", "2011-06-15"), ("RoleArn", role),
      ("RoleSessionName", sessionName), ("WebIdentityToken", webIdentityToken),
    ]
    return try await call(fields, source: "web identity for \(role)", signer: nil)
  }

  /// AssumeRole, signed with `credentials`.
  package func assumeRole(
    _ role: String, with credentials: Credentials, sessionName: String, externalID: String?
  ) async throws(CredentialsError) -> Credentials {
    var fields = [
      ("Action", "AssumeRole"), ("Version", "2011-06-15"), ("RoleArn", role), ("RoleSessionName", sessionName),
    ]
    if let externalID { fields.append(("ExternalId", externalID)) }
    return try await call(fields, source: "role \(role)", signer: credentials)
  }

  private func call(
    _ fields: [(String, String)], source: String, signer: Credentials?
  ) async throws(CredentialsError) -> Credentials {
    let form = PercentEncoding.form(fields.map { (name: $0.0, value: $0.1) })
    let deadline = time.now().advanced(by: .seconds(20))
    return try await retry.run(time: time, deadline: deadline, retryable: \.isTransient) {
      (_) async throws(CredentialsError) in
      var request = HTTPRequest(
        method: .post, url: "\(endpoint.url)/",
        headers: [
          "Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": userAgent,
        ], body: Array(form.utf8), timeout: timeout, maximumBodySize: 256 << 10)
      if let signer { endpoint.signer.sign(&request, with: signer, at: wallClock()) }
      let response: HTTPResponse
      do {
        response = try await transport.send(request)
      } catch {
        throw CredentialsError(.unreachable, source: source, detail: "no answer from STS", cause: error)
      }
      return try STSClient.read(response, source: source)
    }
  }

  private static func read(_ response: HTTPResponse, source: String) throws(CredentialsError) -> Credentials {
    let document = try? XMLParser.parse(response.body)  // Not XML: handled with the status below.
    guard response.status == 200 else {
      let error = document?.firstDescendant("Error")
      let code = error?.text("Code") ?? "HTTP status \(response.status)"
      let message = error?.text("Message").map { ": \($0.prefix(300))" } ?? ""
      // IDPCommunicationError is STS's code for "try again".
      let isTransient = response.status >= 500 || response.status == 429 || code == "IDPCommunicationError"
      throw CredentialsError(isTransient ? .unreachable : .refused, source: source, detail: "STS: \(code)\(message)")
    }
    guard let fields = document?.firstDescendant("Credentials"), let id = fields.text("AccessKeyId"),
      let secret = fields.text("SecretAccessKey"), let token = fields.text("SessionToken"),
      let expiration = fields.text("Expiration").flatMap({ UTCTime(iso8601: $0) })
    else {
      throw CredentialsError(.unreachable, source: source, detail: "STS answered without whole credentials")
    }
    return Credentials(
      accessKeyID: id, secretAccessKey: secret, sessionToken: token, expiration: expiration, source: source)
  }
}

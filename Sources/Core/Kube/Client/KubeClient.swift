// SPDX-License-Identifier: Apache-2.0
//
// Requests to the API server. Read on: KubeClient+Objects (get, list, patch, create), KubeWatch (list and watch).

internal import VPCModel
package import VPCTransport

/// Talks to one API server. It keeps no object and tries nothing twice but a request whose token was refused.
package final class KubeClient: Sendable {
  /// What bounds every request.
  package struct Limits: Sendable {
    /// One get, patch or create; a page of a list gets three times as long.
    package var timeout = Duration.seconds(5)
    /// Bytes of one answer: a page, or an object.
    package var bodySize = 16 << 20
    /// Objects of a page.
    package var pageSize = 50
    /// Pages of a list.
    package var pages = 1000

    package init() {}
  }

  /// An answer that is no success says little; a proxy's page of text is cut.
  static let statusLimits = JSONParser.Limits(size: 64 << 10, depth: 16)

  package let configuration: KubeConfiguration
  package let limits: Limits
  let transport: any HTTPStreamTransport
  let time: TimeSource
  private let tokens: TokenSource
  private let userAgent: String
  private let tls: HTTPTLS

  /// - Parameter userAgent: `NAME-VERSION`, as the existing system's agent calls itself.
  package init(
    configuration: KubeConfiguration, transport: any HTTPStreamTransport, userAgent: String, limits: Limits = Limits(),
    time: TimeSource = .system
  ) {
    self.configuration = configuration
    self.transport = transport
    self.userAgent = userAgent
    self.limits = limits
    self.time = time
    tokens = TokenSource(configuration.credential, time: time)
    var identity: HTTPTLS.Identity?
    if case .certificate(let own) = configuration.credential { identity = own }
    tls = HTTPTLS(
      authorities: configuration.authorities, identity: identity, verifiesServer: configuration.verifiesServer)
  }

  /// Where the API server is reached.
  package var server: String { configuration.server }

  // MARK: requests

  /// What one request is, before it has a token.
  struct Call {
    var method = HTTPMethod.get
    var path: String
    var query = KubeQuery()
    var body: [UInt8] = []
    var contentType = ""
    var accept = "application/json"
    var timeout: Duration
    var maximumBodySize: Int

    /// For errors: no query, which may be long and says nothing that the path does not.
    var name: String { "\(method.rawValue) \(path)" }
  }

  func call(_ path: String) -> Call {
    Call(path: path, timeout: limits.timeout, maximumBodySize: limits.bodySize)
  }

  /// Sends it; where the server refuses the token, once more with the token as the file has it now.
  ///
  /// - Returns: the answer, whatever its status.
  func answer(to call: Call) async throws(KubeError) -> HTTPResponse {
    try await withToken(call) { (request) async throws(HTTPError) in
      let response = try await self.transport.send(request)
      return (response, response.status)
    }
  }

  /// The same for an answer that is read while it comes.
  func stream(_ call: Call, _ limits: HTTPStreamLimits) async throws(KubeError) -> HTTPStream {
    try await withToken(call) { (request) async throws(HTTPError) in
      let stream = try await self.transport.open(request, limits)
      return (stream, stream.status)
    }
  }

  private func withToken<Answer: Sendable>(
    _ call: Call, _ send: (HTTPRequest) async throws(HTTPError) -> (Answer, status: Int)
  ) async throws(KubeError) -> Answer {
    let token = try token(for: call)
    do throws(HTTPError) {
      let (answer, status) = try await send(request(call, token))
      guard status == 401, tokens.canChange else { return answer }
    } catch {
      throw KubeError(error, request: call.name)
    }
    let renewed = try self.token(for: call, refused: token)
    do throws(HTTPError) {
      return try await send(request(call, renewed)).0
    } catch {
      throw KubeError(error, request: call.name)
    }
  }

  private func token(for call: Call, refused: String? = nil) throws(KubeError) -> String? {
    do {
      return try tokens.token(refused: refused)
    } catch {
      throw KubeError(.configuration, request: call.name, detail: "no token", cause: error)
    }
  }

  private func request(_ call: Call, _ token: String?) -> HTTPRequest {
    var headers: HTTPHeaders = ["Accept": call.accept, "User-Agent": userAgent]
    if let token { headers.append("Authorization", "Bearer \(token)") }
    if !call.contentType.isEmpty { headers.append("Content-Type", call.contentType) }
    return HTTPRequest(
      method: call.method, url: configuration.server + call.path + call.query.text, headers: headers, body: call.body,
      timeout: call.timeout, connectTimeout: min(call.timeout, .seconds(5)), maximumBodySize: call.maximumBodySize,
      // A create that is sent twice makes two objects where the name is the server's to choose.
      isRepeatable: call.method != .post, tls: tls, allowsHTTP2: true)
  }
}

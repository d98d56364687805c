// SPDX-License-Identifier: Apache-2.0
//
// Requests to the API server. See also: KubeClient+Objects (get, list, patch, create), KubeWatch (list and watch).

internal import VPCModel
package import VPCTransport

/// A client of one API server. It caches nothing and retries only a request whose token was refused.
package final class KubeClient: Sendable {
  /// Limits of every request.
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

  /// The maximum of an error answer; a proxy's page is truncated.
  static let statusLimits = JSONParser.Limits(size: 64 << 10, depth: 16)

  package let configuration: KubeConfiguration
  package let limits: Limits
  let transport: any HTTPStreamTransport
  let time: TimeSource
  private let tokens: TokenSource
  private let userAgent: String
  private let tls: HTTPTLS

  /// - Parameter userAgent: `NAME-VERSION`, like the agent of amazon-vpc-cni-k8s.
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

  /// One request, before it has a token.
  struct Call {
    var method = HTTPMethod.get
    var path: String
    var query = KubeQuery()
    var body: [UInt8] = []
    var contentType = ""
    var accept = "application/json"
    var timeout: Duration
    var maximumBodySize: Int

    /// For errors: without the query, which may be long and adds nothing to the path.
    var name: String { "\(method.rawValue) \(path)" }
  }

  func call(_ path: String) -> Call {
    Call(path: path, timeout: limits.timeout, maximumBodySize: limits.bodySize)
  }

  /// Sends the request; if the server refuses the token, once more with the token reread from its file.
  ///
  /// - Returns: the answer, whatever its status.
  func answer(to call: Call) async throws(KubeError) -> HTTPResponse {
    try await withToken(call) { (request) async throws(HTTPError) in
      let response = try await self.transport.send(request)
      return (response, response.status)
    }
  }

  /// The same for a streamed answer.
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
      // A create sent twice makes two objects if the server chooses the name.
      isRepeatable: call.method != .post, tls: tls, allowsHTTP2: true)
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCTransport

/// Why a request to the API server failed.
package struct KubeError: CausedError {
  package struct Code: Sendable, Hashable, CustomStringConvertible {
    private enum Value: String {
      case configuration, unreachable, unauthorized, forbidden, notFound, conflict, gone, tooManyRequests
      case serverFault, rejected, badAnswer, cancelled
    }
    private let value: Value

    /// A token file that cannot be read, or a name that is invalid in a URL.
    package static let configuration = Code(value: .configuration)
    /// No complete answer; the cause has the reason.
    package static let unreachable = Code(value: .unreachable)
    /// 401, also after the token was reread.
    package static let unauthorized = Code(value: .unauthorized)
    /// 403: RBAC does not allow it.
    package static let forbidden = Code(value: .forbidden)
    package static let notFound = Code(value: .notFound)
    /// 409: the object exists already, or is no longer the version that was named.
    package static let conflict = Code(value: .conflict)
    /// 410: the requested version is no longer known; list again.
    package static let gone = Code(value: .gone)
    package static let tooManyRequests = Code(value: .tooManyRequests)
    /// 5xx.
    package static let serverFault = Code(value: .serverFault)
    /// Any other 4xx.
    package static let rejected = Code(value: .rejected)
    /// 2xx with an invalid body.
    package static let badAnswer = Code(value: .badAnswer)
    package static let cancelled = Code(value: .cancelled)

    package var description: String { value.rawValue }
  }

  package let code: Code
  /// Method and path, without query.
  package let request: String
  /// 0 if there is none.
  package let status: Int
  /// The server's or this client's message, one line of at most 300 bytes.
  package let detail: String
  /// The server's Retry-After.
  package let retryAfter: Duration?
  package let cause: (any Error)?

  init(
    _ code: Code, request: String, status: Int = 0, detail: String, retryAfter: Duration? = nil,
    cause: (any Error)? = nil
  ) {
    self.code = code
    self.request = request
    self.status = status
    self.detail = String(decoding: detail.utf8.prefix(300).map { $0 < 0x20 ? 0x20 : $0 }, as: UTF8.self)
    self.retryAfter = retryAfter
    self.cause = cause
  }

  package var description: String {
    let number = status == 0 ? "" : " \(status)"
    return detail.isEmpty ? "\(request):\(number)" : "\(request):\(number) \(detail)"
  }

  /// Whether the same request may succeed later without other changes.
  package var isTransient: Bool {
    switch code {
    case .unreachable: (cause as? HTTPError)?.isTransient ?? true
    case .tooManyRequests, .serverFault, .badAnswer, .unauthorized: true
    default: false
    }
  }

  init(_ error: HTTPError, request: String) {
    self.init(error.code == .cancelled ? .cancelled : .unreachable, request: request, detail: "no answer", cause: error)
  }

  /// Reads the `Status` object of an answer that is no success.
  init(status: Int, headers: HTTPHeaders, body: [UInt8], request: String) {
    // A proxy may answer in any form: then its text is shown.
    let object = try? JSONParser.parse(body, limits: KubeClient.statusLimits)
    let message = object?["message"]?.string ?? String(decoding: body.prefix(200), as: UTF8.self)
    let seconds = object?["details"]?["retryAfterSeconds"]?.int ?? headers["Retry-After"].flatMap { Int($0) }
    self.init(
      KubeError.code(of: status), request: request, status: status, detail: message,
      retryAfter: seconds.map { .seconds(min(max($0, 0), 300)) })
  }

  static func code(of status: Int) -> Code {
    switch status {
    case 401: .unauthorized
    case 403: .forbidden
    case 404: .notFound
    case 409: .conflict
    case 410: .gone
    case 429: .tooManyRequests
    case 500...599: .serverFault
    default: .rejected
    }
  }
}

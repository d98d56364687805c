// SPDX-License-Identifier: Apache-2.0

/// The HTTP methods that the cloud's APIs and Kubernetes ask for.
package enum HTTPMethod: String, Sendable, Hashable {
  case get = "GET"
  case put = "PUT"
  case post = "POST"
  case patch = "PATCH"
}

/// Header fields in their order; names are compared without regard to case.
package struct HTTPHeaders: Sendable, Hashable, ExpressibleByDictionaryLiteral {
  package struct Field: Sendable, Hashable {
    package let name: String
    package let value: String
  }

  package private(set) var fields: [Field]

  package init() { fields = [] }

  package init(dictionaryLiteral elements: (String, String)...) {
    fields = elements.map { Field(name: $0.0, value: $0.1) }
  }

  /// Appends a field, even if one with that name exists.
  package mutating func append(_ name: String, _ value: String) {
    fields.append(Field(name: name, value: value))
  }

  /// The first value of that name. Setting replaces every field of that name; nil removes them.
  package subscript(name: String) -> String? {
    get { fields.first { HTTPHeaders.same($0.name, name) }?.value }
    set {
      fields.removeAll { HTTPHeaders.same($0.name, name) }
      if let newValue { append(name, newValue) }
    }
  }

  private static func same(_ left: String, _ right: String) -> Bool {
    left.utf8.count == right.utf8.count && left.lowercased() == right.lowercased()
  }
}

/// One HTTP request with its bounds.
package struct HTTPRequest: Sendable {
  package var method: HTTPMethod
  /// Absolute, `http` or `https`, already percent-encoded, ASCII.
  package var url: String
  /// The transport adds `Host` and `Content-Length` unless they are set here.
  package var headers: HTTPHeaders
  package var body: [UInt8]
  /// From `send` to the last byte of the answer, including the wait in the transport's queue.
  package var timeout: Duration
  /// From the start of the transfer to an established connection, TLS included.
  package var connectTimeout: Duration
  /// The transfer is aborted when the answer's body grows past this many bytes.
  package var maximumBodySize: Int
  /// False: never use a proxy, whatever the transport's settings (link-local services).
  package var useProxy: Bool
  /// How many redirects to follow; with 0 a 3xx answer is returned as it is.
  package var redirects: Int
  /// False: never resent, even if a kept connection turns out to be closed by the server. The server may have acted on
  /// an unanswered request.
  package var isRepeatable: Bool
  /// TLS settings, if they differ from the transport's.
  package var tls: HTTPTLS?
  /// HTTP/2 if the server offers it in the TLS handshake: requests then share one connection. False: HTTP/1.1.
  package var allowsHTTP2: Bool

  package init(
    method: HTTPMethod = .get, url: String, headers: HTTPHeaders = [:], body: [UInt8] = [],
    timeout: Duration = .seconds(10), connectTimeout: Duration = .seconds(3), maximumBodySize: Int = 1 << 20,
    useProxy: Bool = true, redirects: Int = 0, isRepeatable: Bool = true, tls: HTTPTLS? = nil,
    allowsHTTP2: Bool = false
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
    self.timeout = timeout
    self.connectTimeout = connectTimeout
    self.maximumBodySize = maximumBodySize
    self.useProxy = useProxy
    self.redirects = redirects
    self.isRepeatable = isRepeatable
    self.tls = tls
    self.allowsHTTP2 = allowsHTTP2
  }
}

/// The answer to a request that reached its server, whatever the status.
package struct HTTPResponse: Sendable {
  /// 200…999.
  package var status: Int
  package var headers: HTTPHeaders
  package var body: [UInt8]

  package init(status: Int, headers: HTTPHeaders = [:], body: [UInt8] = []) {
    self.status = status
    self.headers = headers
    self.body = body
  }
}

/// Sends one request and returns its answer.
///
/// The edge of the process: tests replace it.
package protocol HTTPTransport: Sendable {
  /// - Returns: the answer, also for a status of 4xx or 5xx: the caller interprets the status.
  /// - Throws: `HTTPError` if there is no complete answer. Cancelling the task ends the transfer at once with
  ///   `.cancelled`.
  func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse
}

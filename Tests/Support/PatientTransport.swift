// SPDX-License-Identifier: Apache-2.0

package import VPCTransport

/// CurlTransport with timeouts for a busy machine, on which a server of the test can take seconds to answer. For tests
/// in which no request should time out.
package struct PatientTransport: HTTPStreamTransport {
  private static let factor = 12
  private let transport: CurlTransport

  package init(_ transport: CurlTransport = CurlTransport()) { self.transport = transport }

  package func send(_ request: HTTPRequest) async throws(HTTPError) -> HTTPResponse {
    try await transport.send(patient(request))
  }

  package func open(_ request: HTTPRequest, _ limits: HTTPStreamLimits) async throws(HTTPError) -> HTTPStream {
    try await transport.open(patient(request), limits)
  }

  private func patient(_ request: HTTPRequest) -> HTTPRequest {
    var request = request
    request.timeout *= Self.factor
    request.connectTimeout *= Self.factor
    return request
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCSystem
package import VPCTransport

/// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI: ECS and EKS Pod Identity.
///
/// The request carries a token: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE (read each time, since it is renewed) takes
/// precedence over AWS_CONTAINER_AUTHORIZATION_TOKEN. Without TLS only AWS's link-local addresses and loopback are
/// allowed, so that a stray variable cannot send the token across the network. Source: "Container credential provider",
/// AWS SDKs and Tools Reference Guide.
package struct ContainerSource: CredentialsSource {
  private static let name = "container endpoint"
  private let environment: CloudEnvironment
  private let transport: any HTTPTransport
  private let time: TimeSource
  private let retry = RetryPolicy(attempts: 3, base: .milliseconds(100), cap: .seconds(1))

  package init(environment: CloudEnvironment, transport: any HTTPTransport, time: TimeSource = .system) {
    self.environment = environment
    self.transport = transport
    self.time = time
  }

  package func fetch() async throws(CredentialsError) -> Credentials? {
    guard let url = try url() else { return nil }
    var headers: HTTPHeaders = ["Accept": "application/json"]
    if let token = try authorization() { headers["Authorization"] = token }
    let request = HTTPRequest(
      url: url.text, headers: headers, timeout: .seconds(5), connectTimeout: .seconds(2), maximumBodySize: 64 << 10,
      useProxy: false)
    return try await retry.run(time: time, retryable: \.isTransient) { (_) async throws(CredentialsError) in
      let response: HTTPResponse
      do {
        response = try await transport.send(request)
      } catch {
        throw CredentialsError(.unreachable, source: ContainerSource.name, detail: "no answer", cause: error)
      }
      guard response.status == 200 else {
        let isTransient = response.status >= 500 || response.status == 429
        throw CredentialsError(
          isTransient ? .unreachable : .refused, source: ContainerSource.name, detail: "HTTP status \(response.status)")
      }
      return try CredentialsDocument.read(response.body, source: ContainerSource.name)
    }
  }

  private struct Target {
    let text: String
  }

  private func url() throws(CredentialsError) -> Target? {
    if let path = environment["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] {
      guard path.hasPrefix("/"), path.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        throw invalid("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not a path")
      }
      return Target(text: "http://169.254.170.2\(path)")
    }
    guard let text = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] else { return nil }
    // The query is handled separately: some endpoints have one, and `EndpointURL` refuses it.
    let base = text.prefix { $0 != "?" }
    guard let url = EndpointURL(String(base)), !text.contains("#"), text.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
    else {
      throw invalid("AWS_CONTAINER_CREDENTIALS_FULL_URI is not an http or https URL")
    }
    guard url.isEncrypted || ContainerSource.isTrusted(url.host) else {
      throw invalid(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or name 169.254.170.2, 169.254.170.23, fd00:ec2::23 or loopback, "
          + "not \(url.host)")
    }
    return Target(text: text)
  }

  private static func isTrusted(_ host: String) -> Bool {
    guard let address = IPAddress(host) else { return host == "localhost" }
    let known = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23", "::1"].compactMap { IPAddress($0) }
    return known.contains(address) || IPPrefix("127.0.0.0/8")?.contains(address) == true
  }

  private func authorization() throws(CredentialsError) -> String? {
    var token = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
    if let file = environment["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] {
      do {
        var bytes = try BoundedFile.read(file, limit: 64 << 10)
        while let last = bytes.last, last == 0x0a || last == 0x0d { bytes.removeLast() }
        token = String(decoding: bytes, as: UTF8.self)
      } catch {
        throw CredentialsError(.invalid, source: ContainerSource.name, detail: "the token file", cause: error)
      }
    }
    guard let token else { return nil }
    guard token.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
      throw invalid("the authorization token holds a control character")
    }
    return token
  }

  private func invalid(_ detail: String) -> CredentialsError {
    CredentialsError(.invalid, source: ContainerSource.name, detail: detail)
  }
}

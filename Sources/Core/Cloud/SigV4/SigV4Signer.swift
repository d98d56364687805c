// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCTransport

/// Signs requests with AWS Signature Version 4 in header fields.
///
/// Source: "Create a signed AWS API request", IAM User Guide; AWS's published test suite is in the tests.
package struct SigV4Signer: Sendable, Hashable {
  /// The region of the credential scope, such as `us-east-1`.
  package var region: String
  /// The service of the credential scope, such as `ec2`.
  package var service: String

  package init(region: String, service: String) {
    self.region = region
    self.service = service
  }

  /// Fields that a proxy or the transport may change, so that a signature over them would break.
  private static let unsigned: Set<String> = [
    "authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id",
  ]

  /// Adds `Host`, `X-Amz-Date`, `X-Amz-Security-Token` (with a session token) and `Authorization`.
  ///
  /// Every other field is signed unchanged, so all of them must be present. Signing again replaces the signature.
  package func sign(_ request: inout HTTPRequest, with credentials: Credentials, at time: UTCTime) {
    let target = RequestTarget(url: request.url)
    if request.headers["Host"] == nil { request.headers["Host"] = target.host }
    request.headers["X-Amz-Date"] = time.basic
    request.headers["X-Amz-Security-Token"] = credentials.sessionToken
    request.headers["Authorization"] = nil
    let fields = SigV4Signer.canonicalFields(request.headers)
    let names = fields.map(\.name).joined(separator: ";")
    let canonical = SigV4Signer.canonicalRequest(request, target: target, fields: fields, names: names)
    let scope = "\(time.day)/\(region)/\(service)/aws4_request"
    let toSign = "AWS4-HMAC-SHA256\n\(time.basic)\n\(scope)\n\(SigV4Signer.hash(Array(canonical.utf8)))"
    let signature = HexDigits.encode(mac(toSign, credentials.secretAccessKey, day: time.day))
    request.headers["Authorization"] =
      "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope), SignedHeaders=\(names), Signature=\(signature)"
  }

  private static func canonicalRequest(
    _ request: HTTPRequest, target: RequestTarget, fields: [(name: String, value: String)], names: String
  ) -> String {
    let lines = fields.map { "\($0.name):\($0.value)\n" }.joined()
    return [
      request.method.rawValue, canonicalPath(target.path), canonicalQuery(target.query), lines, names,
      request.headers["X-Amz-Content-SHA256"] ?? hash(request.body),
    ].joined(separator: "\n")
  }

  /// Lower-case names in order, several values of one name joined with commas, runs of spaces made one.
  private static func canonicalFields(_ headers: HTTPHeaders) -> [(name: String, value: String)] {
    var values: [String: [String]] = [:]
    for field in headers.fields {
      let name = field.name.lowercased()
      guard !unsigned.contains(name) else { continue }
      values[name, default: []].append(field.value.split(separator: " ").joined(separator: " "))
    }
    return values.map { (name: $0.key, value: $0.value.joined(separator: ",")) }.sorted { $0.name < $1.name }
  }

  /// Dot segments and empty segments removed, each segment encoded once more than it is in the URL.
  private static func canonicalPath(_ path: String) -> String {
    var segments: [Substring] = []
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    for part in parts {
      switch part {
      case "", ".": continue
      case "..": _ = segments.popLast()
      default: segments.append(part)
      }
    }
    let isFolder = !segments.isEmpty && (parts.last == "" || parts.last == ".")
    return "/" + segments.map { PercentEncoding.encode($0) }.joined(separator: "/") + (isFolder ? "/" : "")
  }

  /// Names and values encoded once, ordered by name and then by value.
  private static func canonicalQuery(_ query: String) -> String {
    query.split(separator: "&").map { pair -> (String, String) in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let value = parts.count > 1 ? PercentEncoding.decode(parts[1]) : ""
      return (PercentEncoding.encode(PercentEncoding.decode(parts[0])), PercentEncoding.encode(value))
    }
    .sorted { $0 < $1 }
    .map { "\($0.0)=\($0.1)" }
    .joined(separator: "&")
  }

  private static func hash(_ bytes: [UInt8]) -> String { HexDigits.encode(Digest.sha256(bytes)) }

  private func mac(_ text: String, _ secret: String, day: String) -> [UInt8] {
    var key = Array("AWS4\(secret)".utf8)
    for part in [day, region, service, "aws4_request", text] {
      key = Digest.hmacSHA256(Array(part.utf8), key: key)
    }
    return key
  }
}

/// The parts of an absolute URL that a signature covers.
struct RequestTarget {
  /// Host and, if the URL has one, port.
  let host: String
  let path: String
  /// Without the question mark.
  let query: String

  init(url: String) {
    // Bytes, not characters: a question mark followed by a combining character is one character.
    let bytes = Array(url.utf8)
    let slash = UInt8(ascii: "/")
    let start =
      bytes.indices.first { $0 + 2 < bytes.count && bytes[$0...].starts(with: "://".utf8) }.map { $0 + 3 } ?? 0
    let rest = bytes[start...].prefix { $0 != UInt8(ascii: "#") }
    let authority = rest.prefix { $0 != slash && $0 != UInt8(ascii: "?") }
    let target = rest[authority.endIndex...]
    let path = target.prefix { $0 != UInt8(ascii: "?") }
    let afterUser = authority.lastIndex(of: UInt8(ascii: "@")).map { authority[($0 + 1)...] } ?? authority
    host = String(decoding: afterUser, as: UTF8.self)
    self.path = path.isEmpty ? "/" : String(decoding: path, as: UTF8.self)
    query = String(decoding: target[path.endIndex...].dropFirst(), as: UTF8.self)
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The API server's address and the credentials of both sides:
//
//   KUBECONFIG set                                   that file                                     KubeconfigFile
//   KUBERNETES_SERVICE_HOST and _PORT set            the pod's service account                     KubeConfiguration.inCluster
//   CLUSTER_ENDPOINT set                             replaces the server of either
//   none                                             no Kubernetes

internal import VPCModel
internal import VPCSystem
package import VPCTransport

/// An API server and the parameters of its connections.
package struct KubeConfiguration: Sendable, Hashable {
  /// `https://HOST[:PORT][/PATH]`, without a slash at its end.
  package var server: String
  /// The certificate authorities for the server; nil for the machine's.
  package var authorities: HTTPTLS.PEM?
  /// False only if a kubeconfig has `insecure-skip-tls-verify: true`.
  package var verifiesServer: Bool
  package var credential: KubeCredential
  /// Of the pod, or of the context; empty if neither has one.
  package var namespace: String
  /// Where this was read, for the log.
  package var source: String

  package init(
    server: String, authorities: HTTPTLS.PEM? = nil, verifiesServer: Bool = true, credential: KubeCredential = .none,
    namespace: String = "", source: String = "given"
  ) {
    self.server = server
    self.authorities = authorities
    self.verifiesServer = verifiesServer
    self.credential = credential
    self.namespace = namespace
    self.source = source
  }

  /// Where the kubelet mounts a pod's service account.
  package static let serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount"

  /// Reads the configuration from the environment; files are read now, a token file repeatedly later.
  ///
  /// - Parameters:
  ///   - environment: KUBECONFIG, KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT.
  ///   - endpoint: CLUSTER_ENDPOINT, empty if unset: `https://HOST[:PORT]` or `HOST[:PORT]`.
  /// - Returns: nil if no API server is configured.
  /// - Throws: `KubeConfigurationError` naming the variable or the file and the field.
  package static func read(
    environment: [String: String], endpoint: String = "", serviceAccount folder: String = serviceAccountFolder
  ) throws(KubeConfigurationError) -> KubeConfiguration? {
    var found: KubeConfiguration
    if let path = environment["KUBECONFIG"], !path.isEmpty {
      found = try KubeconfigFile.read(path)
    } else if let inCluster = try inCluster(environment, hasEndpoint: !endpoint.isEmpty, folder: folder) {
      found = inCluster
    } else {
      return nil
    }
    if !endpoint.isEmpty { found.server = try server(endpoint, of: "CLUSTER_ENDPOINT") }
    if found.server.hasPrefix("http://"), found.credential.isSecret {
      throw KubeConfigurationError(
        source: found.source, field: "server", detail: "a credential is not sent to \(found.server), which is not https"
      )
    }
    return found
  }

  private static func inCluster(
    _ environment: [String: String], hasEndpoint: Bool, folder: String
  ) throws(KubeConfigurationError) -> KubeConfiguration? {
    let host = environment["KUBERNETES_SERVICE_HOST"] ?? ""
    let port = environment["KUBERNETES_SERVICE_PORT"] ?? ""
    let token = folder + "/token"
    let authority = folder + "/ca.crt"
    guard !host.isEmpty || hasEndpoint else { return nil }
    var configuration = KubeConfiguration(
      server: "", credential: .tokenFile(token), source: "the pod's service account")
    if !hasEndpoint {
      let name = "KUBERNETES_SERVICE_HOST"
      configuration.server = try server("\(bracketed(host)):\(port.isEmpty ? "443" : port)", of: name)
    }
    // Read now, so that a pod without a service account fails at startup; libcurl reads the file for each connection.
    _ = try text(token, of: configuration.source, field: "token")
    _ = try text(authority, of: configuration.source, field: "ca.crt")
    configuration.authorities = .file(authority)
    // Absent only if a part of the account is mounted.
    configuration.namespace = (try? text(folder + "/namespace", of: "", field: "")) ?? ""
    return configuration
  }

  private static func text(_ path: String, of source: String, field: String) throws(KubeConfigurationError) -> String {
    do {
      return String(decoding: try BoundedFile.read(path, limit: 256 << 10), as: UTF8.self).trimmed
    } catch {
      throw KubeConfigurationError(source: source, field: field, detail: "cannot be used", cause: error)
    }
  }

  /// An IPv6 address as a URL wants it.
  static func bracketed(_ host: String) -> String {
    host.utf8.contains(UInt8(ascii: ":")) && !host.hasPrefix("[") ? "[\(host)]" : host
  }

  /// Makes `HOST`, `HOST:PORT`, an IPv6 address or a URL into the base of every request.
  ///
  /// - Throws: `KubeConfigurationError` for anything that has a query, a user, a space or another scheme.
  package static func server(_ text: String, of field: String) throws(KubeConfigurationError) -> String {
    var scheme = "https://"
    var rest = text[...]
    for known in ["https://", "http://"] where text.lowercased().hasPrefix(known) {
      scheme = known
      rest = text.dropFirst(known.count)
    }
    while rest.hasSuffix("/") { rest.removeLast() }
    let authority = rest.prefix { $0 != "/" }
    let isPlain = rest.utf8.allSatisfy { (0x21...0x7e).contains($0) && $0 != 0x3f && $0 != 0x23 && $0 != 0x40 }
    let isAddress = IPAddress(String(authority))?.family == .ipv6
    let host = isAddress ? bracketed(String(authority)) : String(authority)
    guard !authority.isEmpty, isPlain, !authority.utf8.elementsEqual("https:".utf8), rest.utf8.count <= 1024,
      isAddress || hasSoundPort(authority)
    else {
      throw KubeConfigurationError(
        source: "", field: field, detail: "\"\(text.prefix(200))\" is neither HOST[:PORT] nor a URL of http or https")
    }
    return scheme + host + rest.dropFirst(authority.count)
  }

  private static func hasSoundPort(_ authority: Substring) -> Bool {
    let afterAddress =
      authority.hasPrefix("[") ? authority.drop { $0 != "]" }.dropFirst() : authority.drop { $0 != ":" }
    guard let colon = afterAddress.first else { return !authority.hasPrefix("[") || authority.hasSuffix("]") }
    guard colon == ":", let port = Int(afterAddress.dropFirst()) else { return false }
    return (1...65_535).contains(port)
  }
}

/// The client's credential.
package enum KubeCredential: Sendable, Hashable {
  case none
  case token(KubeSecret)
  /// Read again when it is a minute old, and at once if the server refuses it.
  case tokenFile(String)
  case certificate(HTTPTLS.Identity)

  var isSecret: Bool {
    switch self {
    case .token, .tokenFile: true
    case .none, .certificate: false
    }
  }
}

/// A text that is never shown.
package struct KubeSecret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable
{
  package let text: String
  package init(_ text: String) { self.text = text }
  package var description: String { "…" }
  package var debugDescription: String { "…" }
  package var customMirror: Mirror { Mirror(self, children: [(label: String?, value: Any)]()) }
}

/// Why the configuration cannot be used.
package struct KubeConfigurationError: CausedError {
  /// The file, or its description; empty for a variable.
  package let source: String
  /// The variable, or the field within the file.
  package let field: String
  package let detail: String
  package let cause: (any Error)?

  init(source: String, field: String, detail: String, cause: (any Error)? = nil) {
    self.source = source
    self.field = field
    self.detail = detail
    self.cause = cause
  }

  package var description: String {
    [source, field, detail].filter { !$0.isEmpty }.joined(separator: ": ")
  }
}

extension String {
  /// Without white space at either end.
  var trimmed: String {
    let isSpace = { (character: Character) in character.isWhitespace }
    let head = drop(while: isSpace)
    guard let last = head.lastIndex(where: { !isSpace($0) }) else { return "" }
    return String(head[...last])
  }
}

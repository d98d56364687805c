// SPDX-License-Identifier: Apache-2.0
//
// A kubeconfig, YAML or JSON: the current context, its cluster and its user.
// Source: kubernetes client-go, tools/clientcmd/api/v1 (the fields and what a path is relative to).

internal import VPCModel
internal import VPCSystem
internal import VPCTransport

/// Reads a kubeconfig strictly: unsupported fields are errors, so that trust and destinations are never wider than
/// intended.
struct KubeconfigFile {
  private let path: String
  private let root: JSONValue

  /// - Parameter path: one file; a list of files is refused.
  /// - Throws: `KubeConfigurationError` naming file and field.
  static func read(_ path: String) throws(KubeConfigurationError) -> KubeConfiguration {
    let bytes: [UInt8]
    do {
      guard !path.utf8.contains(UInt8(ascii: ":")) else {
        throw KubeConfigurationError(source: path, field: "KUBECONFIG", detail: "a list of files; name one")
      }
      bytes = try BoundedFile.read(path, limit: 1 << 20)
    } catch let error as KubeConfigurationError {
      throw error
    } catch {
      throw KubeConfigurationError(source: path, field: "KUBECONFIG", detail: "cannot be read", cause: error)
    }
    return try configuration(of: bytes, path)
  }

  /// Interprets a file's content; reads the files that it names.
  static func configuration(of bytes: [UInt8], _ path: String) throws(KubeConfigurationError) -> KubeConfiguration {
    try KubeconfigFile(path: path, root: parse(bytes, path)).configuration()
  }

  private static func parse(_ bytes: [UInt8], _ path: String) throws(KubeConfigurationError) -> JSONValue {
    do {
      let isJSON = bytes.first { $0 > 0x20 } == UInt8(ascii: "{")
      return isJSON ? try JSONParser.parse(bytes) : try YAMLReader.parse(bytes)
    } catch {
      throw KubeConfigurationError(source: path, field: "", detail: "no kubeconfig", cause: error)
    }
  }

  private func refuse(_ field: String, _ detail: String) -> KubeConfigurationError {
    KubeConfigurationError(source: path, field: field, detail: detail)
  }

  private func configuration() throws(KubeConfigurationError) -> KubeConfiguration {
    guard root.object != nil else { throw refuse("", "no kubeconfig: the document is \(root.kind)") }
    guard let current = root["current-context"]?.string, !current.isEmpty else {
      throw refuse("current-context", "is not set")
    }
    let context = try entry(current, of: "contexts", "context")
    guard let clusterName = context["cluster"]?.string else {
      throw refuse("contexts[\(current)].cluster", "is not set")
    }
    var found = try cluster(clusterName)
    found.namespace = context["namespace"]?.string ?? ""
    if let user = context["user"]?.string, !user.isEmpty { found.credential = try credential(user) }
    return found
  }

  /// The named entry of a list such as `clusters`, and its relevant member.
  private func entry(_ name: String, of list: String, _ member: String) throws(KubeConfigurationError) -> JSONValue {
    guard let items = root[list]?.array else { throw refuse(list, "is not a list") }
    guard let item = items.first(where: { $0["name"]?.string == name }) else {
      throw refuse("\(list)[\(name)]", "is missing")
    }
    guard let value = item[member], value.object != nil else {
      throw refuse("\(list)[\(name)].\(member)", "is missing")
    }
    return value
  }

  private func cluster(_ name: String) throws(KubeConfigurationError) -> KubeConfiguration {
    let cluster = try entry(name, of: "clusters", "cluster")
    let field = "clusters[\(name)].cluster"
    for unknown in ["proxy-url", "tls-server-name"] where cluster[unknown].map({ $0 != .string("") }) ?? false {
      throw refuse("\(field).\(unknown)", "is not supported")
    }
    guard let server = cluster["server"]?.string, !server.isEmpty else { throw refuse("\(field).server", "is not set") }
    var found = KubeConfiguration(server: "", source: path)
    do {
      found.server = try KubeConfiguration.server(server, of: "\(field).server")
    } catch {
      throw refuse(error.field, error.detail)
    }
    if let data = try pem("certificate-authority", of: cluster, field) { found.authorities = data }
    if let insecure = cluster["insecure-skip-tls-verify"] {
      guard let isInsecure = insecure.bool else {
        throw refuse("\(field).insecure-skip-tls-verify", "is neither true nor false")
      }
      guard !isInsecure || found.authorities == nil else {
        throw refuse("\(field).insecure-skip-tls-verify", "is set together with a certificate authority")
      }
      found.verifiesServer = !isInsecure
    }
    return found
  }

  private func credential(_ name: String) throws(KubeConfigurationError) -> KubeCredential {
    let user = try entry(name, of: "users", "user")
    let field = "users[\(name)].user"
    for unknown in ["exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra"]
    where user[unknown] != nil {
      throw refuse("\(field).\(unknown)", "is not supported: use token, tokenFile or a client certificate")
    }
    // As in kubectl, a file takes precedence over inline data.
    if let file = user["tokenFile"]?.string, !file.isEmpty { return .tokenFile(absolute(file)) }
    if let token = user["token"]?.string, !token.isEmpty {
      guard token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
        throw refuse("\(field).token", "has a character that no token has")
      }
      return .token(KubeSecret(token))
    }
    let certificate = try pem("client-certificate", of: user, field)
    let key = try pem("client-key", of: user, field)
    guard let certificate else {
      if key != nil { throw refuse("\(field).client-certificate", "is not set, but client-key is") }
      return .none
    }
    guard let key else { throw refuse("\(field).client-key", "is not set, but client-certificate is") }
    return .certificate(HTTPTLS.Identity(certificate: certificate, key: key))
  }

  /// `NAME-data` in base64, or else the file that `NAME` names.
  private func pem(
    _ name: String, of object: JSONValue, _ field: String
  ) throws(KubeConfigurationError) -> HTTPTLS.PEM? {
    if let data = object["\(name)-data"], data != .string("") {
      guard let text = data.string, let bytes = Base64.decode(text), bytes.starts(with: "-----BEGIN ".utf8) else {
        throw refuse("\(field).\(name)-data", "is not a PEM text in base64")
      }
      return .bytes(bytes)
    }
    guard let file = object[name], file != .string("") else { return nil }
    guard let text = file.string else { throw refuse("\(field).\(name)", "is \(file.kind) and not a path") }
    let path = absolute(text)
    do {
      _ = try BoundedFile.read(path, limit: 1 << 20)
    } catch {
      throw KubeConfigurationError(source: self.path, field: "\(field).\(name)", detail: "cannot be used", cause: error)
    }
    return .file(path)
  }

  /// Paths are relative to the kubeconfig's own folder.
  private func absolute(_ file: String) -> String {
    guard !file.hasPrefix("/"), let slash = path.lastIndex(of: "/") else { return file }
    return path[...slash] + file
  }
}

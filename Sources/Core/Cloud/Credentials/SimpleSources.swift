// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCSystem

/// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if set, AWS_SESSION_TOKEN.
package struct EnvironmentSource: CredentialsSource {
  private let environment: CloudEnvironment

  package init(environment: CloudEnvironment) { self.environment = environment }

  package func fetch() async throws(CredentialsError) -> Credentials? {
    let id = environment["AWS_ACCESS_KEY_ID"]
    let secret = environment["AWS_SECRET_ACCESS_KEY"]
    if id == nil && secret == nil { return nil }
    guard let id, let secret else {
      let missing = id == nil ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY"
      throw CredentialsError(.invalid, source: "environment", detail: "\(missing) is not set, its counterpart is")
    }
    return Credentials(
      accessKeyID: id, secretAccessKey: secret, sessionToken: environment["AWS_SESSION_TOKEN"], source: "environment")
  }
}

/// AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN and AWS_ROLE_SESSION_NAME: IAM roles for service accounts.
package struct WebIdentitySource: CredentialsSource {
  private let roleARN: String?
  private let tokenFile: String?
  private let sessionName: String
  private let sts: @Sendable () async throws(CredentialsError) -> STSClient

  /// - Parameter sts: creates the client on demand, since its region may come from IMDS.
  package init(
    environment: CloudEnvironment, sts: @escaping @Sendable () async throws(CredentialsError) -> STSClient
  ) {
    self.init(
      roleARN: environment["AWS_ROLE_ARN"], tokenFile: environment["AWS_WEB_IDENTITY_TOKEN_FILE"],
      sessionName: environment["AWS_ROLE_SESSION_NAME"], sts: sts)
  }

  init(
    roleARN: String?, tokenFile: String?, sessionName: String?,
    sts: @escaping @Sendable () async throws(CredentialsError) -> STSClient
  ) {
    self.roleARN = roleARN
    self.tokenFile = tokenFile
    self.sessionName = sessionName ?? "vpc-cni"
    self.sts = sts
  }

  package func fetch() async throws(CredentialsError) -> Credentials? {
    guard let tokenFile else { return nil }
    guard let roleARN else {
      let detail = "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not"
      throw CredentialsError(.invalid, source: "web identity", detail: detail)
    }
    // Read each time: the kubelet replaces the token before the old one expires.
    let bytes: [UInt8]
    do {
      bytes = try BoundedFile.read(tokenFile, limit: 64 << 10)
    } catch {
      throw CredentialsError(.invalid, source: "web identity", detail: "the token file", cause: error)
    }
    let token = String(decoding: bytes.filter { $0 > 0x20 && $0 < 0x7f }, as: UTF8.self)
    guard !token.isEmpty else {
      throw CredentialsError(.invalid, source: "web identity", detail: "\(tokenFile) is empty")
    }
    return try await sts().assumeRole(roleARN, webIdentityToken: token, sessionName: sessionName)
  }
}

/// The role of the instance, from its metadata.
package struct InstanceProfileSource: CredentialsSource {
  private let imds: IMDSClient

  package init(imds: IMDSClient) { self.imds = imds }

  package func fetch() async throws(CredentialsError) -> Credentials? {
    let source = "instance profile"
    let folder = "meta-data/iam/security-credentials/"
    do {
      guard let listing = try await imds.read(folder, maximumSize: 4096),
        let line = listing.split(whereSeparator: { $0 == 0x0a || $0 == 0x0d }).first
      else { return nil }
      let role = String(decoding: line, as: UTF8.self)
      guard role.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && !"/?#%".utf8.contains($0) }) else {
        throw IMDSError(.malformed, path: folder, status: 200, detail: "not a role's name")
      }
      guard let body = try await imds.read(folder + role, maximumSize: 64 << 10) else { return nil }
      return try CredentialsDocument.read(body, source: "\(source) \(role)")
    } catch let error as CredentialsError {
      throw error
    } catch {
      let isTransient = (error as? IMDSError)?.isTransient ?? false
      throw CredentialsError(isTransient ? .unreachable : .refused, source: source, detail: "no answer", cause: error)
    }
  }
}

/// The JSON form of credentials from instance metadata and container endpoints.
enum CredentialsDocument {
  static func read(_ bytes: [UInt8], source: String) throws(CredentialsError) -> Credentials {
    // A parser's failure contains a position and a reason, never the text, so no secrets leak.
    let document: JSONValue
    do {
      document = try JSONParser.parse(bytes, limits: JSONParser.Limits(size: 64 << 10, depth: 8))
    } catch {
      throw CredentialsError(.unreachable, source: source, detail: "the answer cannot be read", cause: error)
    }
    if let code = document["Code"]?.string, code != "Success" {
      throw CredentialsError(.refused, source: source, detail: "the service answers \"\(code.prefix(64))\"")
    }
    let expiration = document["Expiration"]?.string
    let end = expiration.flatMap { UTCTime(iso8601: $0) }
    guard let id = document["AccessKeyId"]?.string, !id.isEmpty,
      let secret = document["SecretAccessKey"]?.string, !secret.isEmpty, expiration == nil || end != nil
    else {
      throw CredentialsError(.unreachable, source: source, detail: "the answer is without whole credentials")
    }
    return Credentials(
      accessKeyID: id, secretAccessKey: secret, sessionToken: document["Token"]?.string, expiration: end, source: source
    )
  }
}

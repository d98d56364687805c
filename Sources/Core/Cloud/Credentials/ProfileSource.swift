// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCSystem

/// The shared credentials and config files: AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE (by default `credentials` and
/// `config` in `$HOME/.aws`), profile AWS_PROFILE (by default `default`).
///
/// Supported: static keys; `role_arn` with `web_identity_token_file`, with `source_profile` (at most five deep), or
/// with `credential_source` (Environment, Ec2InstanceMetadata, EcsContainer); `role_session_name`; `external_id`. Not
/// supported, with an error: `sso_*`, `credential_process`, `mfa_serial`: they are for interactive use.
package struct ProfileSource: CredentialsSource {
  /// What `credential_source` can name.
  package struct Sources: Sendable {
    package var environment: any CredentialsSource
    package var container: any CredentialsSource
    package var instance: any CredentialsSource

    package init(
      environment: any CredentialsSource, container: any CredentialsSource, instance: any CredentialsSource
    ) {
      self.environment = environment
      self.container = container
      self.instance = instance
    }
  }

  private let environment: CloudEnvironment
  private let sources: Sources
  private let sts: @Sendable () async throws(CredentialsError) -> STSClient

  package init(
    environment: CloudEnvironment, sources: Sources,
    sts: @escaping @Sendable () async throws(CredentialsError) -> STSClient
  ) {
    self.environment = environment
    self.sources = sources
    self.sts = sts
  }

  /// Rereads the files each time.
  package func fetch() async throws(CredentialsError) -> Credentials? {
    let config = try load("AWS_CONFIG_FILE", "config", .config)
    let keys = try load("AWS_SHARED_CREDENTIALS_FILE", "credentials", .credentials)
    let profiles = keys.merged(over: config).profiles
    let name = environment["AWS_PROFILE"] ?? "default"
    guard profiles[name] != nil else {
      guard environment["AWS_PROFILE"] == nil else {
        throw failure(name, .notFound, "AWS_PROFILE names it, and no file has it")
      }
      return nil
    }
    return try await resolve(name, in: profiles, depth: 1)
  }

  private func load(
    _ variable: String, _ file: String, _ kind: ProfileFile.Kind
  ) throws(CredentialsError) -> ProfileFile {
    guard let path = environment[variable] ?? environment["HOME"].map({ "\($0)/.aws/\(file)" }) else {
      return ProfileFile()
    }
    do {
      return ProfileFile(try BoundedFile.read(path, limit: 1 << 20), kind: kind)
    } catch {
      if error.isAbsent { return ProfileFile() }
      throw CredentialsError(.invalid, source: "shared files", detail: "the \(file) file", cause: error)
    }
  }

  private func resolve(
    _ name: String, in profiles: [String: [String: String]], depth: Int
  ) async throws(CredentialsError) -> Credentials? {
    guard depth <= 5 else { throw failure(name, .invalid, "source_profile goes more than five deep") }
    guard let profile = profiles[name] else {
      throw failure(name, .notFound, "source_profile names it, and no file has it")
    }
    if let role = profile["role_arn"] {
      return try await assume(role, name, profile, in: profiles, depth: depth)
    }
    if let keys = try staticKeys(name, profile) { return keys }
    for unsupported in ["sso_session", "sso_start_url", "credential_process"] where profile[unsupported] != nil {
      throw failure(name, .invalid, "\(unsupported) is not supported")
    }
    return nil
  }

  private func staticKeys(
    _ name: String, _ profile: [String: String]
  ) throws(CredentialsError) -> Credentials? {
    switch (profile["aws_access_key_id"], profile["aws_secret_access_key"]) {
    case (nil, nil): return nil
    case (let id?, let secret?) where !id.isEmpty && !secret.isEmpty:
      return Credentials(
        accessKeyID: id, secretAccessKey: secret, sessionToken: profile["aws_session_token"], source: "profile \(name)")
    default: throw failure(name, .invalid, "only one of aws_access_key_id and aws_secret_access_key is there")
    }
  }

  private func assume(
    _ role: String, _ name: String, _ profile: [String: String], in profiles: [String: [String: String]], depth: Int
  ) async throws(CredentialsError) -> Credentials? {
    let sessionName = profile["role_session_name"] ?? environment["AWS_ROLE_SESSION_NAME"] ?? "vpc-cni"
    guard profile["mfa_serial"] == nil else { throw failure(name, .invalid, "mfa_serial is not supported") }
    if let file = profile["web_identity_token_file"] {
      return try await WebIdentitySource(roleARN: role, tokenFile: file, sessionName: sessionName, sts: sts).fetch()
    }
    let base: Credentials?
    if let source = profile["source_profile"] {
      // A profile may name itself: its own keys then assume its role.
      if source == name {
        base = try staticKeys(name, profile)
      } else {
        base = try await resolve(source, in: profiles, depth: depth + 1)
      }
    } else {
      switch profile["credential_source"] {
      case "Environment": base = try await sources.environment.fetch()
      case "EcsContainer": base = try await sources.container.fetch()
      case "Ec2InstanceMetadata": base = try await sources.instance.fetch()
      case nil: throw failure(name, .invalid, "role_arn without a source for it")
      case let other?: throw failure(name, .invalid, "credential_source is \"\(other.prefix(64))\"")
      }
    }
    guard let base else { throw failure(name, .notFound, "the source for role_arn has no credentials") }
    return try await sts().assumeRole(
      role, with: base, sessionName: sessionName, externalID: profile["external_id"])
  }

  private func failure(_ profile: String, _ code: CredentialsError.Code, _ detail: String) -> CredentialsError {
    CredentialsError(code, source: "profile \(profile.prefix(64))", detail: detail)
  }
}

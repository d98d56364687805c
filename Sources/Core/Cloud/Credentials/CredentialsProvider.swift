// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCTransport

/// Gives the credentials to sign with: asks its sources in order, keeps what it gets, and renews it in time.
///
///     empty ──ask──▶ fetching ──got──▶ held ──5 to 6 minutes before expiry──▶ held, renewing behind it
///                       └──failed──▶ empty                 ▲──got, or failed (tried again after 30 s)──┘
///
/// While the held credentials are valid nobody waits for a renewal, and a renewal that fails changes nothing. One fetch is
/// under way at a time; all who need it await that one.
package actor CredentialsProvider {
  private let sources: [any CredentialsSource]
  private let time: TimeSource
  private let wallClock: @Sendable () -> UTCTime
  private var held: Credentials?
  private var renewAt: UTCTime?
  private var fetching: Task<Result<Credentials, CredentialsError>, Never>?

  /// Why the last renewal failed while the old credentials were kept; nil after one that succeeded.
  package private(set) var renewalFailure: CredentialsError?

  package init(
    sources: [any CredentialsSource], time: TimeSource = .system,
    wallClock: @escaping @Sendable () -> UTCTime = { UTCTime.now }
  ) {
    self.sources = sources
    self.time = time
    self.wallClock = wallClock
  }

  /// The usual chain, in the AWS SDK for Go's order: a profile named by AWS_PROFILE; the environment's keys; web
  /// identity; the default profile; the container endpoint; the instance profile.
  ///
  /// - Parameter sts: gives the STS client when a role has to be assumed.
  package static func standard(
    environment: CloudEnvironment, transport: any HTTPTransport, imds: IMDSClient, time: TimeSource = .system,
    sts: @escaping @Sendable () async throws(CredentialsError) -> STSClient
  ) -> CredentialsProvider {
    let keys = EnvironmentSource(environment: environment)
    let container = ContainerSource(environment: environment, transport: transport, time: time)
    let instance = InstanceProfileSource(imds: imds)
    let profile = ProfileSource(
      environment: environment,
      sources: ProfileSource.Sources(environment: keys, container: container, instance: instance), sts: sts)
    let webIdentity = WebIdentitySource(environment: environment, sts: sts)
    let rest: [any CredentialsSource] = [keys, webIdentity, profile, container, instance]
    let sources = environment["AWS_PROFILE"] == nil ? rest : [profile]
    return CredentialsProvider(sources: sources, time: time)
  }

  /// Valid credentials: the ones held, or new ones.
  ///
  /// - Throws: `.notFound` where no source is configured; what the first configured source throws.
  package func credentials() async throws(CredentialsError) -> Credentials {
    let now = wallClock()
    if let held, held.isValid(at: now) {
      if let renewAt, now >= renewAt, fetching == nil { startFetch() }
      return held
    }
    let task = fetching ?? startFetch()
    return try await task.value.get()
  }

  /// Forgets `credentials`, if they are the ones held: AWS has refused them as expired or unknown.
  package func invalidate(_ credentials: Credentials) {
    if held == credentials { held = nil }
  }

  @discardableResult
  private func startFetch() -> Task<Result<Credentials, CredentialsError>, Never> {
    // Kept in `fetching` until it ends; bounded by the deadlines of the sources.
    let task = Task { await self.fetch() }
    fetching = task
    return task
  }

  private func fetch() async -> Result<Credentials, CredentialsError> {
    let result = await ask()
    fetching = nil
    let now = wallClock()
    switch result {
    case .success(let new) where new.isValid(at: now):
      held = new
      renewalFailure = nil
      // Spread over a minute, so that a fleet started together does not ask together.
      let margin = 300 + Int64(time.random() * 60)
      renewAt = new.expiration.map { max($0.advanced(by: -margin), now.advanced(by: 30)) }
      return result
    case .success(let new):
      return keepOld(CredentialsError(.unreachable, source: new.source, detail: "what it gives has expired"), now: now)
    case .failure(let error):
      return keepOld(error, now: now)
    }
  }

  private func keepOld(_ error: CredentialsError, now: UTCTime) -> Result<Credentials, CredentialsError> {
    renewalFailure = error
    renewAt = now.advanced(by: 30)
    guard let held, held.isValid(at: now) else { return .failure(error) }
    return .success(held)
  }

  private func ask() async -> Result<Credentials, CredentialsError> {
    do throws(CredentialsError) {
      for source in sources {
        if let found = try await source.fetch() { return .success(found) }
      }
    } catch {
      return .failure(error)
    }
    let detail = "no source has any: environment, web identity, shared files, container endpoint, instance profile"
    return .failure(CredentialsError(.notFound, source: "any source", detail: detail))
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCSystem
package import VPCTransport

/// Provides the credentials for signing: asks its sources in order, caches the result, and renews it in time.
///
///     empty ──ask──▶ fetching ──got──▶ held ──5 to 6 minutes before expiry──▶ held, renewing behind it
///                       └──failed──▶ empty                 ▲──got, or failed (tried again after 30 s)──┘
///
/// While the cached credentials are valid, no caller waits for a renewal, and a failed renewal changes nothing. There
/// is one fetch at a time, shared by all waiting callers.
///
/// Credentials that have expired by this machine's clock are still used if there are no newer ones, and the service
/// decides: IMDS may return old ones while its own source is unavailable, and this clock may be wrong. They are dropped
/// when the service refuses them (`invalidate`). Source: "Static stability" of the AWS SDKs' IMDS credential providers.
package actor CredentialsProvider {
  /// Changes to log, reported once each.
  package enum Notice: Sendable {
    /// Expired credentials are used, because there are no newer ones.
    case usesExpired(Credentials, because: CredentialsError)
    /// They were replaced by valid ones.
    case renewed(Credentials)
  }

  private let sources: [any CredentialsSource]
  private let time: TimeSource
  private let wallClock: @Sendable () -> UTCTime
  private let observer: @Sendable (Notice) -> Void
  private var held: Credentials?
  private var renewAt: UTCTime?
  private var fetching: Task<Result<Credentials, CredentialsError>, Never>?
  private var usesExpired = false

  /// Why the last renewal failed while the old credentials were kept; nil after a successful one.
  package private(set) var renewalFailure: CredentialsError?

  /// - Parameter observer: called on any thread; must not wait.
  package init(
    sources: [any CredentialsSource], time: TimeSource = .system,
    wallClock: @escaping @Sendable () -> UTCTime = { UTCTime.now },
    observer: @escaping @Sendable (Notice) -> Void = { _ in }
  ) {
    self.sources = sources
    self.time = time
    self.wallClock = wallClock
    self.observer = observer
  }

  /// The usual chain, in the AWS SDK for Go's order: a profile named by AWS_PROFILE; the environment's keys; web
  /// identity; the default profile; the container endpoint; the instance profile.
  ///
  /// - Parameter sts: gives the STS client when a role has to be assumed.
  package static func standard(
    environment: CloudEnvironment, transport: any HTTPTransport, imds: IMDSClient, time: TimeSource = .system,
    observer: @escaping @Sendable (Notice) -> Void = { _ in },
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
    return CredentialsProvider(sources: sources, time: time, observer: observer)
  }

  /// Credentials for signing: cached or new ones; expired ones if there are no others.
  ///
  /// - Throws: `.notFound` if no source is configured; errors of the first configured source.
  package func credentials() async throws(CredentialsError) -> Credentials {
    let now = wallClock()
    // Once no newer ones were found, expired ones are used while the search continues.
    if let held, held.isValid(at: now) || usesExpired {
      if let renewAt, now >= renewAt, fetching == nil { startFetch() }
      return held
    }
    let task = fetching ?? startFetch()
    return try await task.value.get()
  }

  /// Drops `credentials` if they are the cached ones: AWS has refused them as expired or unknown.
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
      if usesExpired { observer(.renewed(new)) }
      usesExpired = false
      return result
    case .success(let new):
      // Of two expired ones, the one that expired later.
      if let held, let end = held.expiration, let newEnd = new.expiration, newEnd < end { break }
      held = new
    case .failure(let error):
      return keepOld(error, now: now)
    }
    let source = held?.source ?? "any source"
    return keepOld(CredentialsError(.unreachable, source: source, detail: "its credentials have expired"), now: now)
  }

  private func keepOld(_ error: CredentialsError, now: UTCTime) -> Result<Credentials, CredentialsError> {
    renewalFailure = error
    renewAt = now.advanced(by: 30)
    guard let held else { return .failure(error) }
    if !held.isValid(at: now), !usesExpired {
      usesExpired = true
      observer(.usesExpired(held, because: error))
    }
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
    let detail =
      "no source has credentials: environment, web identity, shared files, container endpoint, instance profile"
    return .failure(CredentialsError(.notFound, source: "any source", detail: detail))
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport
import Testing
import VPCCloud
import VPCModel
import VPCTransport

/// A source that returns what it is told to and counts how often it is asked.
private final class ScriptedSource: CredentialsSource {
  typealias Answer = Result<Credentials?, CredentialsError>
  private let answer = Mutex<Answer>(.success(nil))
  private let counter = Counter()

  var asked: Int { counter.value }

  func set(_ new: Answer) { answer.withLock { $0 = new } }

  func fetch() async throws(CredentialsError) -> Credentials? {
    counter.next()
    return try answer.withLock { $0 }.get()
  }
}

@Suite struct CredentialsProviderTests {
  private let time = ManualTime()
  private let source = ScriptedSource()

  private var provider: CredentialsProvider {
    CredentialsProvider(sources: [ScriptedSource(), source], time: time.source, wallClock: time.wallClock)
  }

  private func keys(_ name: String, lifetime: Int64?) -> Credentials {
    Credentials(
      accessKeyID: name, secretAccessKey: "s", expiration: lifetime.map { time.wallClock().advanced(by: $0) },
      source: "script")
  }

  @Test func keptUntilShortlyBeforeExpiry() async throws {
    let provider = provider
    source.set(.success(keys("one", lifetime: 3600)))
    for _ in 0..<5 { #expect(try await provider.credentials().accessKeyID == "one") }
    #expect(source.asked == 1)
    source.set(.success(keys("two", lifetime: 7200)))
    time.advance(.seconds(3600 - 340))
    #expect(try await provider.credentials().accessKeyID == "one")
    #expect(source.asked == 1)
    // Renewal starts 300 s before expiry, plus half of the minute of jitter.
    time.advance(.seconds(20))
    #expect(try await provider.credentials().accessKeyID == "one")
    #expect(await eventually { await (try? provider.credentials().accessKeyID) == "two" })
    #expect(source.asked == 2)
  }

  @Test func oldOnesServeWhileRenewalFails() async throws {
    let provider = provider
    source.set(.success(keys("one", lifetime: 600)))
    _ = try await provider.credentials()
    source.set(.failure(CredentialsError(.unreachable, source: "script", detail: "down")))
    time.advance(.seconds(400))
    #expect(try await provider.credentials().accessKeyID == "one")
    #expect(await eventually { await provider.renewalFailure != nil })
    // No retry within 30 s.
    for _ in 0..<5 { #expect(try await provider.credentials().accessKeyID == "one") }
    #expect(source.asked == 2)
    time.advance(.seconds(31))
    #expect(try await provider.credentials().accessKeyID == "one")
    #expect(await eventually { source.asked == 3 })
    // The credentials have expired, and there are no others: the service decides.
    time.advance(.seconds(300))
    #expect(try await provider.credentials().accessKeyID == "one")
    await provider.invalidate(keys("other", lifetime: nil))
    #expect(try await provider.credentials().accessKeyID == "one")
    // The service has refused them.
    await provider.invalidate(try await provider.credentials())
    await #expect(throws: CredentialsError.self) { try await provider.credentials() }
    source.set(.success(keys("two", lifetime: 3600)))
    #expect(try await provider.credentials().accessKeyID == "two")
    #expect(await provider.renewalFailure == nil)
  }

  @Test func oneFetchForAll() async throws {
    let provider = provider
    source.set(.success(keys("one", lifetime: nil)))
    await withTaskGroup(of: String?.self) { group in
      for _ in 0..<50 { group.addTask { try? await provider.credentials().accessKeyID } }
      for await name in group { #expect(name == "one") }
    }
    #expect(source.asked == 1)
    time.advance(.seconds(1_000_000))
    #expect(try await provider.credentials().accessKeyID == "one")
    await provider.invalidate(keys("other", lifetime: nil))
    _ = try await provider.credentials()
    #expect(source.asked == 1)
    await provider.invalidate(keys("one", lifetime: nil))
    _ = try await provider.credentials()
    #expect(source.asked == 2)
  }

  /// IMDS returns expired credentials while its own source is unavailable; a wrong clock of this machine looks the
  /// same. The provider uses them, looks for newer ones in the background, and reports both changes once.
  @Test func expiredOnesAreUsedAndTold() async throws {
    let notices = Mutex<[String]>([])
    let provider = CredentialsProvider(
      sources: [ScriptedSource(), source], time: time.source, wallClock: time.wallClock
    ) { notice in
      let text =
        switch notice {
        case .usesExpired(let credentials, let reason): "expired \(credentials.accessKeyID): \(CauseChain.text(reason))"
        case .renewed(let credentials): "renewed \(credentials.accessKeyID)"
        }
      notices.withLock { $0.append(text) }
    }
    source.set(.success(keys("one", lifetime: -10)))
    for _ in 0..<5 { #expect(try await provider.credentials().accessKeyID == "one") }
    #expect(source.asked == 1, "looked for again every half minute, not for each call")
    time.advance(.seconds(31))
    #expect(try await provider.credentials().accessKeyID == "one")
    #expect(await eventually { source.asked == 2 })
    source.set(.success(keys("two", lifetime: 3600)))
    time.advance(.seconds(31))
    #expect(await eventually { await (try? provider.credentials().accessKeyID) == "two" })
    #expect(
      notices.withLock { $0 } == [
        "expired one: get AWS credentials from script: its credentials have expired", "renewed two",
      ])
    source.set(.success(nil))
    await provider.invalidate(try await provider.credentials())
    await #expect(throws: CredentialsError.self) { try await provider.credentials() }
  }

  @Test func chainOrder() async throws {
    let transport = FakeTransport { (_) async throws(HTTPError) in HTTPResponse(status: 404) }
    let imds = IMDSClient(transport: transport, time: time.source)
    func chain(_ variables: [String: String]) -> CredentialsProvider {
      .standard(environment: CloudEnvironment(variables), transport: transport, imds: imds, time: time.source) {
        () async throws(CredentialsError) in throw CredentialsError(.notFound, source: "sts", detail: "asked")
      }
    }
    let keys = ["AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"]
    #expect(try await chain(keys).credentials().source == "environment")
    let named = keys.merging(["AWS_PROFILE": "p", "HOME": "/nonexistent"]) { $1 }
    do throws(CredentialsError) {
      _ = try await chain(named).credentials()
      Issue.record("no error")
    } catch {
      #expect(error.attempt == "get AWS credentials from profile p")
    }
    do throws(CredentialsError) {
      _ = try await chain([:]).credentials()
      Issue.record("no error")
    } catch {
      #expect(error.code == .notFound && error.attempt == "get AWS credentials from any source")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport
import Testing
import VPCKube
import VPCModel
import VPCTransport

extension Trait where Self == ConditionTrait {
  /// The API server of kubeapi, which needs Python.
  static var requiresKubeServer: Self {
    .enabled(if: TestNeeds.mustRun || KubeServer.python != nil, "no Python with hypercorn: run `make setup`")
  }
}

extension KubeServer {
  func client(
    ca: String = "ca.crt", credential: KubeCredential? = nil, limits: KubeClient.Limits = KubeClient.Limits(),
    time: TimeSource = .quick
  ) -> KubeClient {
    KubeClient(
      configuration: KubeConfiguration(
        server: url, authorities: .file(folder.path(ca)), credential: credential ?? .tokenFile(folder.path("token"))),
      transport: PatientTransport(), userAgent: "vpc-cni-test", limits: limits, time: time)
  }
}

extension TimeSource {
  /// The machine's clock, with waits shortened to a hundredth.
  static let quick = TimeSource(
    now: { ContinuousClock.now }, sleep: { try await ContinuousClock().sleep(for: $0 / 100) }, random: { 0.5 })
}

/// What a watch reported, in order and as short texts, and the objects as they are known so far.
final class WatchLog<Object: KubeObject>: Sendable {
  private struct State {
    var lines: [String] = []
    var objects: [String: Object] = [:]
    var count = 0
  }
  private let state = Mutex(State())

  var lines: [String] { state.withLock { $0.lines } }
  var names: [String] { state.withLock { $0.objects.keys.sorted() } }
  var changes: Int { state.withLock { $0.count } }
  func object(_ name: String) -> Object? { state.withLock { $0.objects[name] } }

  func take(_ event: KubeWatchEvent<Object>) {
    state.withLock { state in
      switch event {
      case .listed(let all):
        state.lines.append("listed \(all.count)")
        state.objects = Dictionary(all.map { ($0.metadata.name, $0) }, uniquingKeysWith: { $1 })
      case .changed(let object):
        state.count += 1
        if state.lines.count < 100 { state.lines.append("changed \(object.metadata.name)") }
        state.objects[object.metadata.name] = object
      case .deleted(let object):
        state.lines.append("deleted \(object.metadata.name)")
        state.objects[object.metadata.name] = nil
      case .unreadable(let text): state.lines.append("unreadable \(text)")
      case .lost(let error, _): state.lines.append("lost \(error.code)")
      case .recovered: state.lines.append("recovered")
      }
    }
  }
}

/// Runs a watch during a test's body and ends it afterwards.
func watching<Object: KubeObject>(
  _ type: Object.Type, _ client: KubeClient, in namespace: String? = nil, _ selector: KubeSelector = KubeSelector(),
  _ body: (WatchLog<Object>) async throws -> Void
) async throws {
  let log = WatchLog<Object>()
  let task = Task { await KubeWatch(type, client: client, in: namespace, selector).run { log.take($0) } }
  do {
    try await body(log)
  } catch {
    task.cancel()
    throw error
  }
  task.cancel()
  await task.value
}

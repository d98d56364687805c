// SPDX-License-Identifier: Apache-2.0

import SwiftProtobuf
import Synchronization

/// The agent's service for the plugin.
package protocol CNIBackendService: Sendable {
  /// Assigns an address to the pod. Without an address the reply has `success == false`; that is not an error.
  ///
  /// - Throws: `RPCStatus` (FAILED_PRECONDITION for another client version).
  func addNetwork(_ request: AddNetworkRequest, context: RPCContext) async throws -> AddNetworkReply

  /// Releases the pod's addresses.
  ///
  /// - Throws: for an unknown pod an error containing `datastore: unknown pod`, which plugins match.
  func delNetwork(_ request: DelNetworkRequest, context: RPCContext) async throws -> DelNetworkReply
}

/// The agent's service for the network policy agent.
package protocol ConfigServerBackendService: Sendable {
  func networkPolicyConfigs(context: RPCContext) async throws -> NetworkPolicyAgentConfigReply
}

extension RPCMethodTable {
  package mutating func add(_ service: any CNIBackendService) {
    add(.addNetwork) { (request: AddNetworkRequest, context) in
      try await service.addNetwork(request, context: context)
    }
    add(.delNetwork) { (request: DelNetworkRequest, context) in
      try await service.delNetwork(request, context: context)
    }
  }

  package mutating func add(_ service: any ConfigServerBackendService) {
    // The request is google.protobuf.Empty: its content is ignored.
    add(.networkPolicyConfigs) { _, context in
      try await service.networkPolicyConfigs(context: context).serializedBytes()
    }
  }

  /// grpc.health.v1.Health: Check and Watch.
  ///
  /// Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
  package mutating func add(_ health: HealthStatus) {
    add(.healthCheck) { (request: HealthCheckRequest, _) in
      guard let status = health.status(of: request.service) else { throw RPCStatus(.notFound, "unknown service") }
      var response = HealthCheckResponse()
      response.status = status
      return response
    }
    add(
      .healthWatch,
      .subscription { bytes throws(RPCStatus) in
        let request: HealthCheckRequest = try RPCMethodTable.decode(bytes)
        return health.changes(of: request.service)
      })
  }
}

/// What the health service answers, by service name.
package final class HealthStatus: Sendable {
  /// The name that amazon-vpc-cni-k8s registers beside the empty one.
  package static let agentService = "grpc.health.v1.aws-node"

  private struct State {
    var services: [String: HealthCheckResponse.ServingStatus]
    /// The watchers by number; the server bounds their count.
    var watchers: [Int: (service: String, answers: AsyncStream<[UInt8]>.Continuation)] = [:]
    var lastWatcher = 0
  }

  private let state: Mutex<State>

  /// - Parameter initial: for the server as a whole (the empty name) and for `agentService`.
  package init(_ initial: HealthCheckResponse.ServingStatus) {
    state = Mutex(State(services: ["": initial, Self.agentService: initial]))
  }

  /// Sets every known service, and notifies its watchers.
  package func set(_ status: HealthCheckResponse.ServingStatus) {
    state.withLock { state in
      let changed = state.services.filter { $0.value != status }.keys
      state.services = state.services.mapValues { _ in status }
      // Under the lock, so that all watchers get changes in order.
      for watcher in state.watchers.values where changed.contains(watcher.service) {
        watcher.answers.yield(Self.answer(status))
      }
    }
  }

  /// Nil for a service that was never named.
  package func status(of service: String) -> HealthCheckResponse.ServingStatus? {
    state.withLock { $0.services[service] }
  }

  /// Encoded answers: the state now (SERVICE_UNKNOWN for a service that was never named), and again whenever it
  /// changes. A late reader gets only the last one.
  func changes(of service: String) -> AsyncStream<[UInt8]> {
    let (stream, answers) = AsyncStream.makeStream(of: [UInt8].self, bufferingPolicy: .bufferingNewest(1))
    let number = state.withLock { state in
      state.lastWatcher += 1
      // Under the lock, so that no change comes before it.
      answers.yield(Self.answer(state.services[service] ?? .serviceUnknown))
      // Only services that are known can change.
      if state.services[service] != nil { state.watchers[state.lastWatcher] = (service, answers) }
      return state.lastWatcher
    }
    answers.onTermination = { [weak self] _ in self?.forget(number) }
    return stream
  }

  private func forget(_ watcher: Int) { state.withLock { _ = $0.watchers.removeValue(forKey: watcher) } }

  private static func answer(_ status: HealthCheckResponse.ServingStatus) -> [UInt8] {
    var response = HealthCheckResponse()
    response.status = status
    return (try? response.serializedBytes()) ?? []  // one number: it has no way to fail
  }
}

// SPDX-License-Identifier: Apache-2.0

import SwiftProtobuf
import Synchronization

/// What the agent does for the plugin.
package protocol CNIBackendService: Sendable {
  /// Gives the pod an address. No address is `success == false` in the reply, not an error.
  ///
  /// - Throws: `RPCStatus` (FAILED_PRECONDITION for another client version).
  func addNetwork(_ request: AddNetworkRequest, context: RPCContext) async throws -> AddNetworkReply

  /// Takes the pod's addresses back.
  ///
  /// - Throws: for an unknown pod an error whose text contains `datastore: unknown pod`, which plugins look for.
  func delNetwork(_ request: DelNetworkRequest, context: RPCContext) async throws -> DelNetworkReply
}

/// What the agent tells the network policy agent.
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
    // The request is google.protobuf.Empty: whatever it holds is not looked at.
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
    /// Who watches, by a number of its own; the server bounds how many there are.
    var watchers: [Int: (service: String, answers: AsyncStream<[UInt8]>.Continuation)] = [:]
    var lastWatcher = 0
  }

  private let state: Mutex<State>

  /// - Parameter initial: for the server as a whole (the empty name) and for `agentService`.
  package init(_ initial: HealthCheckResponse.ServingStatus) {
    state = Mutex(State(services: ["": initial, Self.agentService: initial]))
  }

  /// Sets every known service, and tells those who watch one of them.
  package func set(_ status: HealthCheckResponse.ServingStatus) {
    state.withLock { state in
      let changed = state.services.filter { $0.value != status }.keys
      state.services = state.services.mapValues { _ in status }
      // Under the lock, so that everybody hears of changes in their order.
      for watcher in state.watchers.values where changed.contains(watcher.service) {
        watcher.answers.yield(Self.answer(status))
      }
    }
  }

  /// Nil for a service that was never named.
  package func status(of service: String) -> HealthCheckResponse.ServingStatus? {
    state.withLock { $0.services[service] }
  }

  /// Encoded answers: the state now (SERVICE_UNKNOWN for a service that was never named), and again whenever it changes. A
  /// reader that is late gets the last one alone.
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

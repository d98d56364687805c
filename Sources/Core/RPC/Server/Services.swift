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

  /// grpc.health.v1.Health/Check. Watch is not served: clients take UNIMPLEMENTED as "does not watch".
  package mutating func add(_ health: HealthStatus) {
    add(.healthCheck) { (request: HealthCheckRequest, _) in
      guard let status = health.status(of: request.service) else { throw RPCStatus(.notFound, "unknown service") }
      var response = HealthCheckResponse()
      response.status = status
      return response
    }
  }
}

/// What the health service answers, by service name.
package final class HealthStatus: Sendable {
  /// The name that the reference registers beside the empty one.
  package static let agentService = "grpc.health.v1.aws-node"

  private let services: Mutex<[String: HealthCheckResponse.ServingStatus]>

  /// - Parameter initial: for the server as a whole (the empty name) and for `agentService`.
  package init(_ initial: HealthCheckResponse.ServingStatus) {
    services = Mutex(["": initial, Self.agentService: initial])
  }

  /// Sets every known service.
  package func set(_ status: HealthCheckResponse.ServingStatus) {
    services.withLock { $0 = $0.mapValues { _ in status } }
  }

  /// Nil for a service that was never named.
  package func status(of service: String) -> HealthCheckResponse.ServingStatus? {
    services.withLock { $0[service] }
  }
}

// SPDX-License-Identifier: Apache-2.0

/// A unary method's name on the wire.
package struct RPCMethod: Hashable, Sendable, CustomStringConvertible {
  /// With its package: `rpc.CNIBackend`.
  package let service: String
  package let name: String

  package init(service: String, name: String) {
    self.service = service
    self.name = name
  }

  /// The `:path` header: `/rpc.CNIBackend/AddNetwork`.
  package var path: String { "/\(service)/\(name)" }

  package var description: String { "\(service)/\(name)" }
}

// Every method that is spoken here. Source: Protos/rpc.proto, Protos/health.proto.
extension RPCMethod {
  package static let addNetwork = RPCMethod(service: "rpc.CNIBackend", name: "AddNetwork")
  package static let delNetwork = RPCMethod(service: "rpc.CNIBackend", name: "DelNetwork")
  package static let networkPolicyConfigs =
    RPCMethod(service: "rpc.ConfigServerBackend", name: "GetNetworkPolicyConfigs")
  package static let enforceNpToPod = RPCMethod(service: "rpc.NPBackend", name: "EnforceNpToPod")
  package static let deletePodNp = RPCMethod(service: "rpc.NPBackend", name: "DeletePodNp")
  package static let healthCheck = RPCMethod(service: "grpc.health.v1.Health", name: "Check")
}

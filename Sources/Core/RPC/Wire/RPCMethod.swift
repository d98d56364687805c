// SPDX-License-Identifier: Apache-2.0

/// A method's name on the wire.
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

// All supported methods. Source: the files in Protos.
extension RPCMethod {
  package static let addNetwork = RPCMethod(service: "rpc.CNIBackend", name: "AddNetwork")
  package static let delNetwork = RPCMethod(service: "rpc.CNIBackend", name: "DelNetwork")
  package static let networkPolicyConfigs =
    RPCMethod(service: "rpc.ConfigServerBackend", name: "GetNetworkPolicyConfigs")
  package static let enforceNpToPod = RPCMethod(service: "rpc.NPBackend", name: "EnforceNpToPod")
  package static let deletePodNp = RPCMethod(service: "rpc.NPBackend", name: "DeletePodNp")
  package static let healthCheck = RPCMethod(service: "grpc.health.v1.Health", name: "Check")
  package static let healthWatch = RPCMethod(service: "grpc.health.v1.Health", name: "Watch")
  package static let reflection =
    RPCMethod(service: "grpc.reflection.v1.ServerReflection", name: "ServerReflectionInfo")
  /// The same messages under their older name, which most clients still ask for first or second.
  package static let reflectionAlpha =
    RPCMethod(service: "grpc.reflection.v1alpha.ServerReflection", name: "ServerReflectionInfo")
}

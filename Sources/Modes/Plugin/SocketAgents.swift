// SPDX-License-Identifier: Apache-2.0

import VPCModel
import VPCRPC

/// The agent on its socket. Each call is a connection of its own.
struct SocketAgent: AgentPort {
  var target = CNIBackendClient.defaultTarget

  func add(
    _ request: AddNetworkRequest, timeout: Duration, meanwhile: () -> Void
  ) throws(RPCError) -> AddNetworkReply {
    try CNIBackendClient(target: target).addNetwork(request, timeout: timeout, meanwhile: meanwhile)
  }

  func delete(_ request: DelNetworkRequest, timeout: Duration) throws(RPCError) -> DelNetworkReply {
    try CNIBackendClient(target: target).delNetwork(request, timeout: timeout)
  }

  func unreadiness(timeout: Duration) -> String? {
    do {
      let status = try HealthClient(target: target).check(timeout: timeout)
      return status == .serving ? nil : "it answers that it is \(status)"
    } catch {
      return CauseChain.text(error)
    }
  }
}

/// The network policy agent on its socket.
struct SocketPolicyAgent: PolicyPort {
  var target = NPBackendClient.defaultTarget

  func enforce(_ request: EnforceNpRequest, timeout: Duration) throws(RPCError) -> EnforceNpReply {
    try NPBackendClient(target: target).enforceNpToPod(request, timeout: timeout)
  }

  func delete(_ request: DeleteNpRequest, timeout: Duration) throws(RPCError) -> DeleteNpReply {
    try NPBackendClient(target: target).deletePodNp(request, timeout: timeout)
  }
}

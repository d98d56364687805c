// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel
internal import VPCRPC

/// What the network policy agent requests from this agent at its start.
struct PolicySettings: ConfigServerBackendService {
  /// NETWORK_POLICY_ENFORCING_MODE, verbatim.
  let mode: String
  /// ENABLE_MULTI_NIC.
  let usesAllCards: Bool
  let identity: NodeIdentity

  func networkPolicyConfigs(context: RPCContext) async throws -> NetworkPolicyAgentConfigReply {
    var reply = NetworkPolicyAgentConfigReply()
    reply.networkPolicyMode = mode
    reply.multiNicenabled = usesAllCards
    // The policy agent enforces the family of pods' addresses.
    switch identity.family {
    case .ipv4: reply.nodeIpv4 = identity.primaryAddress.description
    case .ipv6: reply.nodeIpv6 = identity.primaryAddress.description
    }
    reply.instanceID = identity.instance.instanceID
    reply.region = identity.instance.region
    return reply
  }
}

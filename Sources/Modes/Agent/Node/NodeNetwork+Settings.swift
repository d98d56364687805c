// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

extension NodeNetwork.Configuration {
  /// What of the agent's settings the node's network depends on.
  init(_ settings: Settings) {
    mtu = UInt32(settings.eniMTU)
    vethPrefix = settings.vethPrefix
    eniMarkMask = settings.eniMarkMask
    wantsConstantRules = settings.podRules == .constant
    // Contract, ip rules: needed for NodePort replies and for what is SNATed.
    usesPrimaryMark = settings.supportsNodePorts || !settings.usesExternalSNAT
    primaryMark = settings.connmark
    usesExternalSNAT = settings.usesExternalSNAT
    excludedSNATCIDRs = settings.excludedSNATCIDRs
    supportsNodePorts = settings.supportsNodePorts
    snatPorts =
      switch settings.snatPorts {
      case .prng: .fully
      case .hashrandom: .hashed
      case .none: .none
      }
  }
}

extension InstanceLimits {
  /// The pods that EKS allows a node of this type: one for each secondary address, and two on the host's network.
  /// Source: eni-max-pods.txt of amazon-eks-ami, which is this formula for every type.
  /// With prefixes each of these places holds 16 addresses; what the node may really have is kubelet's --max-pods, which
  /// this release does not ask for.
  func maxPods(_ settings: Settings) -> Int {
    let places = eniLimit * max(ipv4Limit - 1, 0)
    return (settings.usesPrefixes && supportsPrefixes ? places * PoolSettings.addressesPerPrefix : places) + 2
  }
}

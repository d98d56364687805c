// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

extension NodeNetwork.Configuration {
  /// The settings that the node network depends on.
  init(_ settings: Settings) {
    mtu = UInt32(settings.eniMTU)
    vethPrefix = settings.vethPrefix
    eniMarkMask = settings.eniMarkMask
    wantsConstantRules = settings.podRules == .constant
    // Contract, ip rules: needed for NodePort replies and for SNAT traffic.
    usesPrimaryMark = settings.supportsNodePorts || !settings.usesExternalSNAT
    primaryMark = settings.connmark
    usesExternalSNAT = settings.usesExternalSNAT
    excludedSNATCIDRs = settings.excludedSNATCIDRs
    supportsNodePorts = settings.supportsNodePorts
    externalServiceCIDRs = settings.externalServiceCIDRs
    snatPorts =
      switch settings.snatPorts {
      case .prng: .fully
      case .hashrandom: .hashed
      case .none: .none
      }
  }
}

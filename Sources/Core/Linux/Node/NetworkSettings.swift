// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The settings that a node's kernel state depends on.
package struct NetworkSettings: Sendable, Hashable {
  /// Address families of pods.
  package var families: [AddressFamily]
  /// AWS_VPC_ENI_MTU, in bytes.
  package var mtu: UInt32
  /// AWS_VPC_K8S_CNI_VETHPREFIX.
  package var vethPrefix: String
  /// VPC_CNI_ENI_MARK_MASK.
  package var eniMarkMask: UInt32
  /// VPC_CNI_POD_RULES=constant.
  package var wantsConstantRules: Bool
  /// Rule 1024 is needed, with this mark; nil if neither NodePort support nor SNAT is on.
  package var primaryMark: PacketMark?
  /// AWS_VPC_K8S_CNI_CONNMARK.
  package var connmark: PacketMark
  package var usesExternalSNAT: Bool
  package var excludedSNATCIDRs: [IPPrefix]
  package var snatPorts: HostRules.Randomization
  package var supportsNodePorts: Bool
  package var externalServiceCIDRs: [IPPrefix]
  /// ENABLE_V6_EGRESS, in an IPv4 cluster.
  package var hasIPv6Egress: Bool

  package init(_ settings: Settings) {
    families = [settings.family]
    mtu = UInt32(settings.eniMTU)
    vethPrefix = settings.vethPrefix
    eniMarkMask = settings.eniMarkMask
    wantsConstantRules = settings.podRules == .constant
    connmark = settings.connmark
    // Contract, ip rules: needed for NodePort replies and for SNAT traffic.
    primaryMark = settings.supportsNodePorts || !settings.usesExternalSNAT ? settings.connmark : nil
    usesExternalSNAT = settings.usesExternalSNAT
    excludedSNATCIDRs = settings.excludedSNATCIDRs
    supportsNodePorts = settings.supportsNodePorts
    externalServiceCIDRs = settings.externalServiceCIDRs
    hasIPv6Egress = settings.hasV6Egress && settings.family == .ipv4
    snatPorts =
      switch settings.snatPorts {
      case .prng: .fully
      case .hashrandom: .hashed
      case .none: .none
      }
  }

  /// The node's firewall rules.
  ///
  /// - Parameters:
  ///   - address: the primary ENI's primary address.
  ///   - interface: the name of its link.
  package func hostRules(
    address: IPAddress, interface: String, vpcCIDRs: [IPPrefix], earlier: EarlierSettings
  ) -> HostRules {
    // IPv6 pods leave with their own addresses, by the primary ENI.
    let hasIPv4 = families.contains(.ipv4)
    var rules = HostRules(
      primaryAddress: address, primaryInterface: interface, vethPrefix: vethPrefix, vpcCIDRs: vpcCIDRs,
      excludedCIDRs: excludedSNATCIDRs, externalSNAT: usesExternalSNAT || !hasIPv4, randomization: snatPorts,
      nodePortSupport: supportsNodePorts && hasIPv4, connmark: connmark)
    rules.earlier = earlier
    rules.blocksNodeLocalPods = !hasIPv4
    rules.blocksNodeLocalPodsInIPv6 = hasIPv6Egress
    return rules
  }
}

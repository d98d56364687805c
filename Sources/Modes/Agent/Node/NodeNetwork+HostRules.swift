// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// SNAT, and the marks that lead replies of NodePort connections back to the primary ENI.
extension NodeNetwork {
  /// Makes the node's iptables rules and the nftables connmark table what the settings ask for, in one transaction for
  /// each table. Nothing is written where all is in place.
  func applyHostRules(primary: MACAddress, address: IPAddress, vpcCIDRs: [IPPrefix]) throws {
    guard let link = try findLink(primary) else { throw NodeNetworkError.noPrimaryLink(primary) }
    let backend = IptablesBackend.detect()
    let rules = HostRules(
      primaryAddress: address, primaryInterface: link.name, vethPrefix: configuration.vethPrefix, vpcCIDRs: vpcCIDRs,
      excludedCIDRs: configuration.excludedSNATCIDRs, externalSNAT: configuration.usesExternalSNAT,
      randomization: configuration.snatPorts, nodePortSupport: configuration.supportsNodePorts,
      connmark: configuration.primaryMark, connmarkBackend: backend == .legacy ? .iptables : .nftables)
    if let backend {
      let iptables = try Iptables(backend: backend)
      let natChanged = try iptables.apply(rules.nat)
      let mangleChanged = try iptables.apply(rules.mangle)
      if natChanged || mangleChanged {
        logger.notice("iptables rules written", metadata: ["backend": "\(backend)", "primary": "\(link.name)"])
      }
    } else {
      logger.error(
        "no iptables on this node: packets of pods leave the VPC with the pods' own addresses (no SNAT)",
        metadata: ["remedy": "install iptables, or set AWS_VPC_K8S_CNI_EXTERNALSNAT=true behind a NAT gateway"])
    }
    try applyConnmarkTable(rules)
    // With EXTERNALSNAT there is nothing to mark.
    connmarkBackend = configuration.usesExternalSNAT ? nil : backend == .legacy ? "iptables" : "nftables"
  }

  private func applyConnmarkTable(_ rules: HostRules) throws {
    do {
      try nftables().converge([(HostRules.connmarkTable, rules.connmarkTable)])
    } catch {
      // A node without nf_tables keeps its connmark rules in iptables-legacy and has no such table.
      guard error.code == .unavailable, rules.connmarkTable == nil else { throw error }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// SNAT, and the marks that lead replies of NodePort connections back to the primary ENI.
extension NodeNetwork {
  /// Makes the node's firewall rules what the settings ask for, and remembers for what. Nothing is written where all is
  /// in place. What the firewall refuses is in the report and in the log, and `HostRulesWatch` tries it again.
  ///
  /// - Parameter lockWaitSeconds: how long another holder of the xtables lock is waited for.
  /// - Throws: where the primary ENI has no link.
  nonisolated func applyHostRules(
    primary: MACAddress, address: IPAddress, vpcCIDRs: [IPPrefix], lockWaitSeconds: Int = 30
  ) async throws -> FirewallReport {
    try await hostRules.apply(
      HostRulesKeeper.Subject(primary: primary, address: address, vpcCIDRs: vpcCIDRs, earlier: await earlier),
      lockWaitSeconds: lockWaitSeconds)
  }

  /// Looks whether the rules still are what `applyHostRules` was last asked for, mends them, and tells what was written.
  /// Costs one question to nftables where all stands there and nobody has changed anything, else a process for each
  /// iptables of the node.
  ///
  /// - Returns: nil before the first `applyHostRules`.
  nonisolated func verifyHostRules() async throws -> FirewallReport? {
    try await hostRules.verify(await earlier)
  }
}

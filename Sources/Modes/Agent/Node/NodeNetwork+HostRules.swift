// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// SNAT, and the marks that route replies of NodePort connections back to the primary ENI.
extension NodeNetwork {
  /// Writes the node's firewall rules for the settings, and remembers the inputs. Writes nothing if all rules are in
  /// place. Refusals of the firewall are in the report and in the log, and `HostRulesWatch` retries them.
  ///
  /// - Parameter lockWaitSeconds: how long to wait for the xtables lock.
  /// - Throws: if the primary ENI has no link.
  nonisolated func applyHostRules(
    primary: MACAddress, address: IPAddress, vpcCIDRs: [IPPrefix], lockWaitSeconds: Int = 30
  ) async throws -> FirewallReport {
    try await hostRules.apply(
      HostRulesKeeper.Subject(primary: primary, address: address, vpcCIDRs: vpcCIDRs, earlier: await earlier),
      lockWaitSeconds: lockWaitSeconds)
  }

  /// Checks that the rules still match the last `applyHostRules`, repairs them, and returns what was written. Costs one
  /// nftables request if all rules are there and nothing changed, else one process per iptables backend.
  ///
  /// - Returns: nil before the first `applyHostRules`.
  nonisolated func verifyHostRules() async throws -> FirewallReport? {
    try await hostRules.verify(await earlier)
  }
}

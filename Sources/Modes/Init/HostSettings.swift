// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// The kernel settings that a node needs before its agent starts.
///
/// Source: contract of amazon-vpc-cni-k8s, section 8.6; the loose reverse path of secondary ENIs belongs to the source
/// map (docs/decisions/0004).
struct HostSettings: Sendable, Hashable {
  /// In the order in which they are written. A setting that the kernel does not have is skipped.
  let wanted: [KernelSetting]

  /// - Parameters:
  ///   - primary: the primary ENI's interface.
  ///   - others: those of the other ENIs that are attached now.
  ///   - agentSetsLater: the agent can configure ENIs attached later. Otherwise new interfaces get the loose check by
  ///     default, including pods', which checks a pod's source address less strictly (docs/decisions/0030).
  /// - Throws: `Sysctl.InvalidName` never for names that the kernel gave.
  init(
    _ settings: NodeSettings, primary: InterfaceName, others: [InterfaceName], agentSetsLater: Bool
  ) throws(Sysctl.InvalidName) {
    let isIPv6 = settings.agent.family == .ipv6
    var wanted: [KernelSetting] = []
    // 2 is loose: replies to packets of another ENI are not dropped.
    for interface in [primary] + others {
      wanted.append(KernelSetting(try .interface(interface, .ipv4, "rp_filter"), "2"))
    }
    if !agentSetsLater {
      wanted.append(KernelSetting(try Sysctl("net", "ipv4", "conf", "default", "rp_filter"), "2"))
    }
    wanted.append(
      KernelSetting(try Sysctl("net", "ipv4", "tcp_early_demux"), settings.disablesEarlyDemux ? "0" : "1"))
    if isIPv6 { wanted.append(try .ipv6()) }
    if isIPv6 || settings.agent.hasV6Egress { wanted += try KernelSetting.ipv6Router([primary]) }
    self.wanted = wanted
  }

  /// Writes what differs.
  ///
  /// - Returns: what was changed, in words.
  /// - Throws: `SystemCallError` naming the setting; earlier ones stay written.
  func apply() throws(SystemCallError) -> [String] {
    var changed: [String] = []
    for entry in wanted {
      let before = try entry.sysctl.read()
      if try entry.sysctl.write(entry.value) == .done {
        changed.append("\(entry.sysctl) from \(before ?? "none") to \(entry.value)")
      }
    }
    return changed
  }
}

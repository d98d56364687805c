// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// What the node must have before its first rule is written.
extension NodeNetwork {
  func checkVethPrefix(_ primary: MACAddress) throws {
    let strangers = HostVethName.strangers(among: try Link.list(on: socket), prefix: settings.vethPrefix)
    if let link = strangers.first(where: { $0.mac == primary }) {
      throw NodeNetworkError.vethPrefixOfENI(prefix: settings.vethPrefix, link: link.name)
    }
    guard !strangers.isEmpty else { return }
    logger.warning(
      "interfaces of other programs match the veth prefix; pod rules apply to their traffic too",
      metadata: [
        "prefix": "\(settings.vethPrefix)", "interfaces": "\(strangers.prefix(10).map(\.name))",
        "remedy": "use another AWS_VPC_K8S_CNI_VETHPREFIX (and the plugin's vethPrefix), or rename the interfaces",
      ])
  }

  /// ENABLE_IPv6 given to the agent and not to the init container leaves pods without a way out. An image's own setting of
  /// IPv4 may come later.
  ///
  /// - Throws: `NodeNetworkError.noIPv6`.
  func checkForwarding() throws {
    for family in settings.families where family == .ipv6 {
      let wrong = try KernelSettingReading.forwarding(family, on: socket).filter { !$0.isRight }
      guard !wrong.isEmpty else { continue }
      if wrong.contains(where: { $0.found == nil }) { throw NodeNetworkError.noIPv6 }
      logger.warning(
        "kernel settings keep packets from pods",
        metadata: [
          "found": "\(wrong.map { "\($0.setting.name)=\($0.found ?? "")" })",
          "wanted": "\(wrong.map { "\($0.setting.name)=\($0.setting.value)" })",
          "remedy": "set ENABLE_IPv6=true in the init container too",
        ])
    }
  }
}

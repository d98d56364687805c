// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// Which program probably changed the agent's network state: a guess from traces, for the log.
///
/// A container that does not see the host's processes has only the names from nftables and the rules themselves.
struct Culprit: Sendable, Hashable {
  /// What the guess is made from.
  struct Evidence: Sendable, Hashable {
    var kinds: Set<RepairKind> = []
    /// Programs that nftables named.
    var programs: Set<String> = []
    /// Names of living processes whose sockets made changes.
    var senders: Set<String> = []
    /// Programs of `suspects` that run on the node.
    var running: Set<String> = []
    /// The kernel's own rule for `main` was gone as well.
    var lostMainRule = false
    /// Rules or tables of nm-cloud-setup are there.
    var showsCloudSetup = false
  }

  /// Programs known to make such changes, as /proc names them (15 bytes), and the setting that prevents it.
  static let suspects: [String: String] = [
    "systemd-network": "systemd-networkd: set ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no",
    "NetworkManager": "NetworkManager: leave the ENIs and pods' links unmanaged",
    "nm-cloud-setup": "nm-cloud-setup: disable its service and timer",
    "firewalld": "firewalld: disable it, or do not let it flush on reload",
    "dhclient": "dhclient",
    "dhcpcd": "dhcpcd",
    "netplan": "netplan",
    "systemd-udevd": "systemd-udevd: MACAddressPolicy=none for the pods' links",
    "kube-proxy": "kube-proxy",
    "nft": "nft",
    "calico-node": "calico-node",
    "cilium-agent": "cilium-agent",
    "dockerd": "dockerd",
    "ufw": "ufw: disable it",
    "ip": "ip",
    "iptables": "iptables",
    "iptables-restor": "iptables-restore",
    "xtables-nft-mul": "iptables",
    "aws-k8s-agent": "aws-k8s-agent: two agents on one node",
  ]

  /// - Returns: nil if there are no traces.
  static func likely(_ evidence: Evidence) -> String? {
    let firewall = !evidence.kinds.isDisjoint(with: [.nftables, .iptables])
    if firewall, let program = evidence.programs.sorted().first {
      return suspects[program] ?? program
    }
    if evidence.showsCloudSetup, let text = suspects["nm-cloud-setup"] {
      return "\(text) (rules of its tables 30200 and 30400 are there)"
    }
    if evidence.lostMainRule { return "`ip rule flush`: the kernel's own rule for main was gone too" }
    if let sender = evidence.senders.sorted().first { return suspects[sender] ?? sender }
    if evidence.kinds == [.mac], let text = suspects["systemd-udevd"], evidence.running.contains("systemd-udevd") {
      return text
    }
    let order: [String] =
      firewall
      ? ["firewalld", "ufw", "kube-proxy", "dockerd"]
      : ["systemd-network", "NetworkManager", "dhcpcd", "dhclient"]
    return order.first { evidence.running.contains($0) }.flatMap { suspects[$0] }
  }

  /// Whether rules are nm-cloud-setup's.
  static func isCloudSetup(_ rule: PolicyRule) -> Bool {
    (30_200..<30_500).contains(rule.priority) && (30_200..<30_500).contains(rule.table.number)
  }
}

// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// The firewall rules of a node in IPv4: which packets of pods leave with the node's primary address, and which
/// connections came in by the primary ENI and must leave by it. IPv6 pods need no rules of their own; on their node one
/// rule keeps others from the node-local addresses that egress-cni gives them.
///
/// A value: settings in, wanted content of the tables out. Chains, comments and the order of words are part of the
/// contract, since other programs compare them word by word.
/// Source: contract of amazon-vpc-cni-k8s v1.23, iptables of IPv4 and of IPv6 clusters.
package struct HostRules: Sendable, Hashable {
  /// AWS_VPC_K8S_CNI_RANDOMIZESNAT.
  package enum Randomization: Sendable, Hashable {
    /// `prng`: --random-fully.
    case fully
    /// `hashrandom`: --random.
    case hashed
    case none

    /// As SNAT of iptables takes it.
    var words: [String] {
      switch self {
      case .fully: ["--random-fully"]
      case .hashed: ["--random"]
      case .none: []
      }
    }
  }

  /// Where the rules are that mark connections arriving by the primary ENI.
  package enum ConnmarkBackend: Sendable, Hashable {
    /// Chains of iptables' nat table: for iptables-legacy.
    case iptables
    /// The nftables table `ip aws-cni`: for iptables-nft, and without iptables.
    case nftables
  }

  /// The own address of the primary ENI, the source address of SNAT. Without SNAT it is not used.
  package var primaryAddress: IPAddress
  /// The primary ENI's link.
  package var primaryInterface: String
  /// The prefix of pods' host veth names.
  package var vethPrefix: String
  /// Pods and connections from before a settings change.
  package var earlier = EarlierSettings()
  package var vpcCIDRs: [IPPrefix]
  /// AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS.
  package var excludedCIDRs: [IPPrefix]
  /// AWS_VPC_K8S_CNI_EXTERNALSNAT: no SNAT on the node.
  package var externalSNAT: Bool
  package var randomization: Randomization
  /// AWS_VPC_CNI_NODE_PORT_SUPPORT.
  package var nodePortSupport: Bool
  /// AWS_VPC_K8S_CNI_CONNMARK.
  package var connmark: PacketMark
  package var connmarkBackend: ConnmarkBackend
  /// Nobody may open connections to the node-local IPv4 addresses of IPv6 pods.
  package var blocksNodeLocalPods = false
  /// The same for node-local IPv6 addresses of IPv4 pods. Switched off again, the rule stays, as with amazon-vpc-cni-k8s:
  /// pods may still have such addresses, and no IPv4 node has to look at ip6tables for it.
  package var blocksNodeLocalPodsInIPv6 = false

  package init(
    primaryAddress: IPAddress, primaryInterface: String, vethPrefix: String = "eni", vpcCIDRs: [IPPrefix],
    excludedCIDRs: [IPPrefix] = [], externalSNAT: Bool = false, randomization: Randomization = .fully,
    nodePortSupport: Bool = true, connmark: PacketMark = .primary, connmarkBackend: ConnmarkBackend = .iptables
  ) {
    self.primaryAddress = primaryAddress
    self.primaryInterface = primaryInterface
    self.vethPrefix = vethPrefix
    self.vpcCIDRs = vpcCIDRs
    self.excludedCIDRs = excludedCIDRs
    self.externalSNAT = externalSNAT
    self.randomization = randomization
    self.nodePortSupport = nodePortSupport
    self.connmark = connmark
    self.connmarkBackend = connmarkBackend
  }
}

extension HostRules {
  /// The desired nat table: SNAT, and connmark with the iptables backend.
  package var nat: IptablesPlan {
    var plan = IptablesPlan(table: "nat", chains: [Name.snatChain: snatChain])
    guard !externalSNAT else { return plan }
    plan.rules.append(snatJump)
    guard connmarkBackend == .iptables else { return plan }
    plan.chains[Name.connmarkChain] =
      destinations.map { destination($0.prefix) + comment("AWS CONNMARK CHAIN") + ["-j", "RETURN"] }
      + [comment("AWS, CONNMARK") + ["-j", "CONNMARK", "--set-xmark", connmark.description]]
    for prefix in vethPrefixes {
      plan.rules.append(
        IptablesRule(
          "PREROUTING", ["-i", "\(prefix)+"] + comment("AWS, outbound connections") + ["-j", Name.connmarkChain]))
    }
    // After the jumps: it restores the connection's mark into the packet.
    plan.rules.append(IptablesRule("PREROUTING", comment("AWS, CONNMARK") + restore(connmark)))
    return plan
  }

  /// The desired mangle table: it marks NodePort connections and restores the mark in their replies.
  package var mangle: IptablesPlan {
    var plan = IptablesPlan(table: "mangle")
    let add = { (plan: inout IptablesPlan, words: [String]) in plan.rules.append(IptablesRule("PREROUTING", words)) }
    if nodePortSupport {
      add(
        &plan,
        ["-i", primaryInterface] + comment("AWS, primary ENI")
          + ["-m", "addrtype", "--dst-type", "LOCAL", "--limit-iface-in"]
          + ["-j", "CONNMARK", "--set-xmark", connmark.description])
    }
    for prefix in vethPrefixes {
      for mark in restoredMarks { add(&plan, ["-i", "\(prefix)+"] + comment("AWS, primary ENI") + restore(mark)) }
    }
    if nodePortSupport { add(&plan, ["-i", "vlan+"] + comment("AWS, primary ENI") + restore(connmark)) }
    return plan
  }

  /// The desired filter table. Its one rule comes before all others.
  package var filter: IptablesPlan {
    IptablesPlan(table: "filter", rules: blocksNodeLocalPods ? [IptablesPlan.nodeLocalPods(.ipv4)] : [])
  }

  /// The desired filter table of ip6tables; nil if it is left alone.
  package var ipv6Filter: IptablesPlan? {
    guard blocksNodeLocalPodsInIPv6 else { return nil }
    return IptablesPlan(table: "filter", rules: [IptablesPlan.nodeLocalPods(.ipv6)])
  }

  /// Every table that holds rules of the agent.
  package var plans: [IptablesPlan] { [nat, mangle, filter] }

  /// The prefixes of pods' host veths: the current one, then those from before a settings change.
  var vethPrefixes: [String] { [vethPrefix] + earlier.vethPrefixes }

  /// The connection marks that are restored into pod packets.
  var restoredMarks: [PacketMark] { (nodePortSupport || !externalSNAT ? [connmark] : []) + earlier.marks }

  enum Name {
    static let snatChain = "AWS-SNAT-CHAIN-0"
    static let connmarkChain = "AWS-CONNMARK-CHAIN-0"
    static let limitedToOutput = "--limit-iface-out"
  }

  var snatJump: IptablesRule {
    IptablesRule("POSTROUTING", comment("AWS SNAT CHAIN") + ["-j", Name.snatChain])
  }

  var snatChain: [[String]] {
    guard !externalSNAT else { return [] }
    let returns = destinations.map { entry in
      destination(entry.prefix) + comment(entry.isExcluded ? "AWS SNAT CHAIN EXCLUSION" : "AWS SNAT CHAIN")
        + ["-j", "RETURN"]
    }
    // Packets that leave by an ENI with its own address must keep it: the VPC would drop any other.
    let own =
      ["!", "-o", primaryInterface] + comment("AWS SNAT CHAIN, own address")
      + ["-m", "addrtype", "--src-type", "LOCAL", Name.limitedToOutput, "-j", "RETURN"]
    let translate =
      ["!", "-o", "vlan+"] + comment("AWS, SNAT") + ["-m", "addrtype", "!", "--dst-type", "LOCAL"]
      + ["-j", "SNAT", "--to-source", "\(primaryAddress)"] + randomization.words
    return returns + [own, translate]
  }

  /// Destinations without translation, each once: the VPC's prefixes, then the excluded ones.
  var destinations: [(prefix: IPPrefix, isExcluded: Bool)] {
    let vpc = Set(vpcCIDRs.filter { $0.family == .ipv4 })
    let excluded = Set(excludedCIDRs.filter { $0.family == .ipv4 }).subtracting(vpc)
    return vpc.sorted().map { ($0, false) } + excluded.sorted().map { ($0, true) }
  }

  /// iptables-save does not print 0.0.0.0/0.
  private func destination(_ prefix: IPPrefix) -> [String] { prefix.length == 0 ? [] : ["-d", prefix.description] }

  func comment(_ text: String) -> [String] { ["-m", "comment", "--comment", text] }

  /// `--restore-mark --mask M` as iptables-save prints it.
  private func restore(_ mark: PacketMark) -> [String] {
    let mask = "0x" + String(mark.mask, radix: 16)
    return ["-j", "CONNMARK", "--restore-mark", "--nfmask", mask, "--ctmask", mask]
  }
}

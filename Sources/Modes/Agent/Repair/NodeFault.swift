// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux

/// The kind of a repaired object: the label of awscni_node_repair_count.
enum RepairKind: String, Sendable, Hashable, CaseIterable {
  case rule, route, address, link, mtu, mac, setting, nftables, iptables

  init(_ kind: NodeDifference.Kind) {
    self =
      switch kind {
      case .rule: .rule
      case .route: .route
      case .address: .address
      case .link: .link
      case .mtu: .mtu
      case .mac: .mac
      case .setting: .setting
      }
  }
}

/// One difference from the desired state, and its repair.
struct NodeFault: Sendable, Hashable {
  enum Mend: Sendable, Hashable {
    case kernel(NodeDifference)
    /// The agent's nftables table, whatever differs: it is written in one transaction.
    case sourceMap
    /// The firewall of the node: iptables, and the tables of nftables that take its place.
    case hostRules
  }

  /// Why it is repaired.
  enum Reason: Sendable, Hashable {
    /// Another program changed it.
    case repair
    /// State of the other scheme or of amazon-vpc-cni-k8s that is no longer needed.
    case takeover
  }

  /// The object: repeated changes of one object have the same subject.
  let subject: String
  let kind: RepairKind
  /// What is wrong.
  let text: String
  let mend: Mend
  let reason: Reason

  init(_ difference: NodeDifference, reason: Reason = .repair) {
    subject = difference.subject
    kind = RepairKind(difference.kind)
    text = "\(difference)"
    mend = .kernel(difference)
    self.reason = reason
  }

  init(subject: String, kind: RepairKind, text: String, mend: Mend) {
    self.subject = subject
    self.kind = kind
    self.text = text
    self.mend = mend
    reason = .repair
  }

  /// The agent never removes an address of a host interface without a warning in the log.
  var removesAddress: Bool { if case .kernel(.foreignAddress) = mend { true } else { false } }

  /// Additions come before deletions, for all kinds.
  var isDeletion: Bool {
    switch mend {
    case .kernel(.foreignRule), .kernel(.foreignRoute), .kernel(.foreignAddress): true
    default: false
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux

/// What sort of object was repaired: the label of awscni_node_repair_count.
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

/// One point in which the node is not as it should be, and how it is mended.
struct NodeFault: Sendable, Hashable {
  enum Mend: Sendable, Hashable {
    case kernel(NodeDifference)
    /// Our table of nftables, whatever of it differs: it is written in one transaction.
    case sourceMap
    /// The firewall of the node: iptables, and the tables of nftables that take its place.
    case hostRules
  }

  /// Why it is mended.
  enum Reason: Sendable, Hashable {
    /// Somebody undid it.
    case repair
    /// The other scheme's, or the existing system's, which is not needed any more.
    case takeover
  }

  /// The object: what is undone again and again has the same subject each time.
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

  /// An address of a host's interface is never removed without a warning in the log.
  var removesAddress: Bool { if case .kernel(.foreignAddress) = mend { true } else { false } }

  /// Additions come before deletions, whatever they are of.
  var isDeletion: Bool {
    switch mend {
    case .kernel(.foreignRule), .kernel(.foreignRoute), .kernel(.foreignAddress): true
    default: false
    }
  }
}

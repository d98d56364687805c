// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The agent's desired rules of one iptables table, and how to distinguish them from foreign rules.
package struct IptablesPlan: Sendable, Hashable {
  /// `nat`, `mangle` or `filter`.
  package let table: String
  /// The agent's chains with all of their rules.
  package var chains: [String: [[String]]]
  /// The agent's rules in built-in chains, in order.
  package var rules: [IptablesRule]

  package init(table: String, chains: [String: [[String]]] = [:], rules: [IptablesRule] = []) {
    self.table = table
    self.chains = chains
    self.rules = rules
  }

  /// The addresses that egress-cni gives to pods of the other family, the same on every node. Source: contract, egress.
  package static func nodeLocalRange(_ family: AddressFamily) -> String {
    switch family {
    case .ipv4: "169.254.172.0/22"
    case .ipv6: "fd00::ac:0/118"
    }
  }

  /// Keeps everybody from opening connections to those addresses. As iptables-save and ip6tables-save print it.
  static func nodeLocalPods(_ family: AddressFamily) -> IptablesRule {
    IptablesRule(
      "FORWARD",
      ["-d", nodeLocalRange(family), "-m", "conntrack", "--ctstate", "NEW", "-m", "comment", "--comment"]
        + ["Block Node Local Pod access via IP\(family == .ipv4 ? "v4" : "v6")", "-j", "REJECT", "--reject-with"]
        + [family == .ipv4 ? "icmp-port-unreachable" : "icmp6-port-unreachable"])
  }

  /// The chains that the contract's programs create, in this release and in older ones.
  package static func owns(chain: String) -> Bool {
    for prefix in ["AWS-SNAT-CHAIN-", "AWS-CONNMARK-CHAIN-"] where chain.hasPrefix(prefix) {
      let digits = chain.dropFirst(prefix.count)
      return !digits.isEmpty && digits.utf8.allSatisfy { 48...57 ~= $0 }
    }
    return false
  }

  /// Whether a rule in a built-in chain belongs to the agent: it jumps to one of its chains, or has one of
  /// the contract's comments.
  package static func owns(rule: IptablesRule) -> Bool {
    if rule.chain == "FORWARD" {
      return AddressFamily.allCases.map(nodeLocalPods).contains {
        rule.target == $0.target && rule.comment == $0.comment
      }
    }
    guard ["PREROUTING", "POSTROUTING"].contains(rule.chain), let target = rule.target else { return false }
    if owns(chain: target) { return true }
    return target == "CONNMARK" && ["AWS, CONNMARK", "AWS, primary ENI"].contains(rule.comment)
  }

  /// The input for `iptables-restore --noflush` that brings the table into this state in one transaction; nil if it is
  /// already.
  ///
  /// A differing chain of the agent is rewritten completely. Foreign rules are not mentioned. A chain of an older
  /// release is deleted, unless a foreign rule jumps to it: then it stays empty.
  package func restoreText(present: IptablesTable) -> String? {
    var lines: [String] = []
    var tail: [String] = []
    for (name, wanted) in chains.sorted(by: { $0.key < $1.key }) {
      let old = present.chains.contains(name) ? present.rules.filter { $0.chain == name }.map(\.words) : nil
      if let old, IptablesPlan.isSame(old, wanted) { continue }
      // For an existing chain this line flushes it.
      lines.append(":\(name) - [0:0]")
      tail += wanted.map { IptablesRule(name, $0).line("-A") }
    }
    let stale = present.chains.filter { IptablesPlan.owns(chain: $0) && chains[$0] == nil }
    var deletions: [String] = []
    var removals: [String] = []
    for name in stale {
      let isEmpty = !present.rules.contains { $0.chain == name }
      let isHeld = present.rules.contains {
        $0.target == name && !IptablesPlan.owns(rule: $0) && !IptablesPlan.owns(chain: $0.chain)
      }
      if isHeld && isEmpty { continue }
      lines.append(":\(name) - [0:0]")
      if !isHeld { removals.append("-X \(name)") }
    }
    for chain in ["PREROUTING", "POSTROUTING", "FORWARD"] {
      let old = present.rules.filter { $0.chain == chain && IptablesPlan.owns(rule: $0) }
      let new = rules.filter { $0.chain == chain }
      guard old != new else { continue }
      deletions += old.map { $0.line("-D") }
      tail += new.map { $0.line(chain == "FORWARD" ? "-I" : "-A") }
    }
    let body = lines + deletions + tail + removals
    guard !body.isEmpty else { return nil }
    return "*\(table)\n" + body.joined(separator: "\n") + "\nCOMMIT\n"
  }

  /// The same rules, the last one last; the order of those before it, which all say RETURN, makes no difference.
  private static func isSame(_ old: [[String]], _ new: [[String]]) -> Bool {
    guard old.count == new.count, old.last == new.last else { return false }
    let order = { (left: [String], right: [String]) in left.lexicographicallyPrecedes(right) }
    return old.sorted(by: order) == new.sorted(by: order)
  }
}

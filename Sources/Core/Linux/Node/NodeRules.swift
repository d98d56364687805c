// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The policy rules that a node holds once, whatever its ENIs and pods: the desired state of contract §8.1 and of the
/// constant scheme.
package struct NodeRules: Sendable, Hashable {
  /// Of the pods' addresses.
  package var family: AddressFamily
  /// `512: lookup PODS`, and `32764: not iif lo goto 32766`; false in the per-pod scheme.
  package var leadsToPodsTable: Bool
  /// `1024: fwmark MARK lookup main`; nil where neither NodePort support nor SNAT is on.
  package var primaryMark: PacketMark?

  /// See the properties.
  package init(family: AddressFamily, leadsToPodsTable: Bool, primaryMark: PacketMark? = .primary) {
    self.family = family
    self.leadsToPodsTable = leadsToPodsTable
    self.primaryMark = primaryMark
  }

  private var toPods: PolicyRule { PolicyRule(family: family, priority: RulePriority.toPod, table: .pods) }

  /// A part of the constant scheme: in the other the contract's rules stand alone.
  private var pastENIs: PolicyRule {
    var rule = PolicyRule(
      family: family, priority: RulePriority.pastENIs, input: InterfaceName("lo"), table: RouteTable(0))
    rule.isInverted = true
    rule.skipsTo = RulePriority.main
    return rule
  }

  /// In the order in which they are added.
  package var wanted: [PolicyRule] {
    var rules = leadsToPodsTable ? [toPods, pastENIs] : []
    if let primaryMark {
      rules.append(PolicyRule(family: family, priority: RulePriority.primaryMark, mark: primaryMark, table: .main))
    }
    return rules
  }

  /// Adds what is missing, then deletes what is there twice and what an earlier setting left.
  ///
  /// - Returns: what was changed; empty where all was as it should be.
  @discardableResult
  package func apply(on socket: NetlinkSocket) throws -> [NodeDifference] {
    let differences = try verify(on: socket)
    try NodeDifference.mend(differences, on: socket)
    return differences
  }

  /// What differs from the desired state, additions before deletions. Rules that say anything else are left alone.
  package func verify(on socket: NetlinkSocket) throws(NetlinkError) -> [NodeDifference] {
    let wanted = wanted
    let present = try PolicyRule.list(family, on: socket)
    var seen: Set<PolicyRule> = []
    let foreign = present.filter { rule in
      guard !rule.isForeign else { return false }
      if wanted.contains(rule) { return !seen.insert(rule).inserted }
      return rule == toPods || rule == pastENIs || isPrimaryMark(rule)
    }
    return wanted.filter { !present.contains($0) }.map(NodeDifference.missingRule)
      + foreign.map(NodeDifference.foreignRule)
  }

  /// Whether the rule is one of priority 1024 as an earlier run made it, of whatever mark.
  private func isPrimaryMark(_ rule: PolicyRule) -> Bool {
    guard let mark = rule.mark else { return false }
    return rule == PolicyRule(family: family, priority: RulePriority.primaryMark, mark: mark, table: .main)
  }
}

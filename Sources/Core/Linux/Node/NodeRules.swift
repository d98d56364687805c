// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The policy rules that exist once per node, independent of ENIs and pods: the desired state of contract §8.1 and of
/// the constant scheme.
package struct NodeRules: Sendable, Hashable {
  /// Of the pods' addresses.
  package var family: AddressFamily
  /// `512: lookup PODS`, and `32764: not iif lo goto 32766`; false in the per-pod scheme.
  package var leadsToPodsTable: Bool
  /// `1024: fwmark MARK lookup main`; nil if neither NodePort support nor SNAT is on.
  package var primaryMark: PacketMark?
  /// As `primaryMark`, for connections from before a settings change.
  package var earlierMarks: [PacketMark] = []
  /// `1535: to CIDR lookup main`, one for each: AWS_EXTERNAL_SERVICE_CIDRS. Those of another family are skipped.
  package var externalServices: [IPPrefix]
  /// During migration from the constant to the per-pod scheme: its rules stay until each pod has its own.
  package var keepsPodsTable = false

  /// See the properties.
  package init(
    family: AddressFamily, leadsToPodsTable: Bool, primaryMark: PacketMark? = .primary,
    externalServices: [IPPrefix] = []
  ) {
    self.family = family
    self.leadsToPodsTable = leadsToPodsTable
    self.primaryMark = primaryMark
    self.externalServices = externalServices
  }

  private var toPods: PolicyRule { PolicyRule(family: family, priority: RulePriority.toPod, table: .pods) }

  /// Part of the constant scheme: the per-pod scheme has only the contract's rules.
  private var pastENIs: PolicyRule {
    var rule = PolicyRule(
      family: family, priority: RulePriority.pastENIs, input: InterfaceName("lo"), table: RouteTable(0))
    rule.isInverted = true
    rule.skipsTo = RulePriority.main
    return rule
  }

  /// The kernel's own rule: all other packets use it, including those of pods on the primary ENI. `ip rule flush`
  /// deletes it.
  private var toMain: PolicyRule { PolicyRule(family: family, priority: RulePriority.main, table: .main) }
  /// The kernel's last rule, to a usually empty table. Restored together with the one before it.
  private var toDefault: PolicyRule {
    PolicyRule(family: family, priority: RulePriority.main + 1, table: RouteTable(253))
  }

  /// In the order in which they are added.
  package var wanted: [PolicyRule] {
    var rules = leadsToPodsTable ? [toPods, pastENIs] : []
    for mark in [primaryMark].compactMap({ $0 }) + earlierMarks {
      rules.append(PolicyRule(family: family, priority: RulePriority.primaryMark, mark: mark, table: .main))
    }
    for service in externalServices where service.family == family {
      // 0.0.0.0/0 is split in two halves: for the kernel such a rule has no destination, and deleting a rule without
      // selectors deletes the first of its priority and table, whatever its selectors.
      rules += (service.length == 0 ? service.halves : [service]).map(toService)
    }
    return rules
  }

  private func toService(_ service: IPPrefix?) -> PolicyRule {
    PolicyRule(family: family, priority: RulePriority.externalService, to: service, table: .main)
  }

  /// Adds missing rules, then deletes duplicates and leftovers of earlier settings.
  ///
  /// - Returns: the changes; empty if there were no differences.
  @discardableResult
  package func apply(on socket: NetlinkSocket) throws -> [NodeDifference] {
    let differences = try verify(on: socket)
    try NodeDifference.mend(differences, on: socket)
    return differences
  }

  /// Differences from the desired state, additions before deletions. Other rules are kept.
  package func verify(on socket: NetlinkSocket) throws(NetlinkError) -> [NodeDifference] {
    let wanted = wanted
    let present = try PolicyRule.list(family, on: socket)
    var seen: Set<PolicyRule> = []
    var foreign: [PolicyRule] = []
    var keepsService = false
    for rule in present {
      let isLeft: Bool
      if rule.isForeign {
        isLeft = true
      } else if wanted.contains(rule) {
        isLeft = seen.insert(rule).inserted
      } else if rule == toService(nil) {
        // The rule of amazon-vpc-cni-k8s for 0.0.0.0/0 can be deleted only as the first of its kind.
        isLeft = keepsService
      } else if rule == toPods || rule == pastENIs {
        isLeft = keepsPodsTable
      } else {
        isLeft = !(NodeRules.isPrimaryMark(rule) || isService(rule))
      }
      if !isLeft { foreign.append(rule) }
      if isLeft, rule.priority == RulePriority.externalService, rule.table == .main { keepsService = true }
    }
    let leadsToMain = present.contains {
      $0.isLookup && $0.table == .main && $0.priority >= RulePriority.pastENIs && $0.isUnconditional
    }
    let missing = (wanted + (leadsToMain ? [] : [toMain, toDefault])).filter { !present.contains($0) }
    return missing.map(NodeDifference.missingRule)
      + foreign.map(NodeDifference.foreignRule)
  }

  /// Whether the rule is one of priority 1024 from an earlier run, with any mark.
  static func isPrimaryMark(_ rule: PolicyRule) -> Bool {
    guard let mark = rule.mark else { return false }
    return rule == PolicyRule(family: rule.family, priority: RulePriority.primaryMark, mark: mark, table: .main)
  }

  /// Whether the rule is one of AWS_EXTERNAL_SERVICE_CIDRS, of this or an earlier value.
  private func isService(_ rule: PolicyRule) -> Bool {
    rule.destination != nil && rule == toService(rule.destination)
  }
}

extension IPPrefix {
  /// The two prefixes that it consists of; itself for a single address.
  fileprivate var halves: [IPPrefix] {
    let first = IPPrefix(address: address, length: length + 1)
    let hostBits = family.bitWidth - length - 1
    let second = first.flatMap { _ in address.advanced(by: UInt128(1) << UInt128(max(hostBits, 0))) }
      .flatMap { IPPrefix(address: $0, length: length + 1) }
    return [first, second].compactMap { $0 }
  }
}

extension PolicyRule {
  /// Whether it holds for every packet.
  fileprivate var isUnconditional: Bool {
    source == nil && destination == nil && mark == nil && input == nil && output == nil
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The two policy rules of one pod in the per-pod scheme: contract §8.1, 512 and 1536.
package enum PodRules {
  /// `512: to POD lookup main`, and `1536: from POD lookup TABLE` unless the table is main.
  package static func rules(pod: IPAddress, table: RouteTable) -> [PolicyRule] {
    let single = IPPrefix(single: pod)
    var rules = [PolicyRule(family: pod.family, priority: RulePriority.toPod, to: single, table: .main)]
    if table != .main {
      rules.append(PolicyRule(family: pod.family, priority: RulePriority.fromPod, from: single, table: table))
    }
    return rules
  }

  /// Requests that add the rules, for `NetlinkSocket.perform` together with the pod's route.
  package static func add(pod: IPAddress, table: RouteTable) -> [NetlinkRequest] {
    rules(pod: pod, table: table).map { .add($0) }
  }

  /// Requests that delete the rules of a pod whose table is known.
  package static func delete(pod: IPAddress, table: RouteTable) -> [NetlinkRequest] {
    rules(pod: pod, table: table).map { .delete($0) }
  }

  /// The rules of the per-pod scheme that the node holds, for all pods, in the kernel's order.
  ///
  /// - Parameter pod: nil for all. The kernel lists every rule anyway.
  package static func list(
    family: AddressFamily, pod: IPAddress? = nil, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [PolicyRule] {
    try PolicyRule.list(family, on: socket).filter { rule in
      guard let found = address(of: rule) else { return false }
      return pod == nil || found == pod
    }
  }

  /// Deletes every rule of a pod, for any table.
  ///
  /// - Returns: what was deleted; empty if nothing was left.
  @discardableResult
  package static func remove(pod: IPAddress, on socket: NetlinkSocket) throws(NetlinkError) -> [PolicyRule] {
    let found = try list(family: pod.family, pod: pod, on: socket)
    try socket.perform(found.map { .delete($0) })
    return found
  }

  /// The pod that a rule of this scheme is for; nil for any other rule.
  package static func address(of rule: PolicyRule) -> IPAddress? {
    let prefix: IPPrefix?
    switch rule.priority {
    case RulePriority.toPod where rule.table == .main && rule.source == nil: prefix = rule.destination
    case RulePriority.fromPod where rule.destination == nil: prefix = rule.source
    default: prefix = nil
    }
    guard let prefix, prefix.isSingle, rule.mark == nil, rule.input == nil, rule.output == nil, rule.isLookup else {
      return nil
    }
    return prefix.address
  }
}

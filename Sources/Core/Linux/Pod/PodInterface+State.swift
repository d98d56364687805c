// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The routes and rules of one interface, as ADD creates and CHECK expects them.
extension PodInterface {
  /// The pod's table for the interface's routes: main for the first, its index for the others.
  var podTable: RouteTable { index == 0 ? .main : RouteTable(UInt32(index)) }

  /// The gateway on the link, and the default route by it.
  func podRoutes(link: UInt32) -> [Route] {
    [
      Route(to: IPPrefix(single: gateway), table: podTable, device: link, scope: .link),
      Route(to: Route.everything(address.family), table: podTable, device: link, gateway: gateway),
    ]
  }

  /// In the pod: packets with this source address leave by this interface. Nil for the first.
  var podRule: PolicyRule? {
    guard index > 0 else { return nil }
    return PolicyRule(family: address.family, priority: 1, from: IPPrefix(single: address), table: podTable)
  }

  /// The host's rules for the pod: none if the agent's constant rules serve all pods.
  func rules(_ routing: HostRouting) -> [PolicyRule] {
    guard case .perPodRules = routing else { return [] }
    return PodInterface.rules(address: address, eniTable: eniTable)
  }

  /// `from POD lookup TABLE`; table 0 in a delete stands for any.
  func fromRule(table: RouteTable) -> PolicyRule { PodInterface.fromRule(address: address, table: table) }

  /// The per-pod scheme's rules for an address.
  static func rules(address: IPAddress, eniTable: RouteTable) -> [PolicyRule] {
    let to = PolicyRule(
      family: address.family, priority: RulePriority.toPod, to: IPPrefix(single: address), table: .main)
    return eniTable == .main ? [to] : [to, fromRule(address: address, table: eniTable)]
  }

  private static func fromRule(address: IPAddress, table: RouteTable) -> PolicyRule {
    PolicyRule(family: address.family, priority: RulePriority.fromPod, from: IPPrefix(single: address), table: table)
  }
}

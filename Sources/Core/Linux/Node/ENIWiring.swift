// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The desired kernel state for one ENI: contract §8.2, §8.3 and §8.6.
///
/// `verify` returns the differences, `apply` repairs them; both can be repeated at any time. All calls block and must
/// run on a thread in the node's namespace.
package struct ENIWiring: Sendable, Hashable {
  /// Identifies the link, whatever its name.
  package var mac: MACAddress
  /// The ENI's primary address of the family that pods use.
  package var address: IPAddress
  /// The subnet of the address.
  package var subnet: IPPrefix
  /// AWS_VPC_ENI_MTU.
  package var mtu: UInt32
  /// `RouteTable.eni(device:card:)`; `main` for the primary ENI, for which only link and settings are managed.
  package var table: RouteTable
  /// The mark that routes a pod's packets by this ENI; nil for the primary ENI and in the per-pod scheme.
  package var mark: PacketMark?
  /// During migration from the constant to the per-pod scheme: the mark rule stays although there is no mark.
  package var keepsMarkRule = false
  /// Pods' addresses and prefixes on this ENI. None of them may be on the link: the node would treat the pods' packets
  /// as its own.
  package var slots: Set<IPPrefix> = []

  /// See the properties.
  package init(
    mac: MACAddress, address: IPAddress, subnet: IPPrefix, mtu: UInt32, table: RouteTable, mark: PacketMark? = nil
  ) {
    self.mac = mac
    self.address = address
    self.subnet = subnet
    self.mtu = mtu
    self.table = table
    self.mark = mark
  }

  /// The subnet's router: the first address after the base address for IPv4, `fe80:ec2::1` for IPv6.
  package var gateway: IPAddress {
    switch address.family {
    case .ipv4: subnet.address.advanced(by: 1) ?? subnet.address
    case .ipv6: IPAddress(ipv6: 0xfe80_0ec2 << 96 | 1)
    }
  }

  /// Finds the ENI's link by its MAC; nil while the kernel has none (attaching takes a while). A VLAN on top of the
  /// ENI, which has the same MAC, does not count. To wait for it: `NetlinkMonitor.waitForLink`.
  package func findLink(on socket: NetlinkSocket) throws(NetlinkError) -> Link? {
    try Link.find(mac: mac, on: socket).first { $0.kind != "vlan" }
  }

  /// Repairs every difference.
  ///
  /// - Parameter link: the ENI's link, from `findLink` or `NetlinkMonitor.waitForLink`.
  /// - Returns: the changes, in order; empty if there were no differences.
  /// - Throws: `NetlinkError`, `SystemCallError`. Earlier repairs stay; another call continues from there.
  @discardableResult
  package func apply(to link: Link, on socket: NetlinkSocket) throws -> [NodeDifference] {
    var changed: [NodeDifference] = []
    // The second round repairs side effects of the first: with the first address of a subnet the kernel also deletes
    // its secondary addresses (unless promote_secondaries is set), and the wanted one can be among them.
    for _ in 0..<2 {
      guard let current = try Link.find(index: link.index, on: socket) else { break }
      let differences = try verify(current, on: socket)
      if differences.isEmpty { break }
      try NodeDifference.mend(differences, on: socket)
      changed += differences
    }
    return changed
  }

  /// Differences from the desired state, additions before deletions.
  ///
  /// - Parameter link: as just read.
  package func verify(_ link: Link, on socket: NetlinkSocket) throws -> [NodeDifference] {
    var differences: [NodeDifference] = []
    if link.mtu != mtu { differences.append(.mtu(link: link.index, found: link.mtu, wanted: mtu)) }
    if !link.isUp { differences.append(.linkDown(link.index)) }
    differences += try settings(of: link)
    guard table != .main else { return differences + (try podAddresses(on: link.index, socket)) }

    let addresses = try addressDifferences(link.index, on: socket)
    let routes = try routeDifferences(link.index, on: socket)
    let rules = try ruleDifferences(on: socket)
    differences += addresses.missing + routes.missing + rules.missing
    differences += rules.foreign + routes.foreign + addresses.foreign
    return differences
  }

  /// Missing and foreign objects are kept apart: all additions come before the first deletion.
  private typealias Found = (missing: [NodeDifference], foreign: [NodeDifference])

  private func settings(of link: Link) throws -> [NodeDifference] {
    guard let name = InterfaceName(link.name) else { return [] }
    let (sysctl, wanted): (Sysctl, String)
    switch address.family {
    // 2 is loose: the strict check ignores the packet's mark and would drop replies to pods.
    case .ipv4: (sysctl, wanted) = (try .interface(name, .ipv4, "rp_filter"), "2")
    // Until duplicate detection ends, one to two seconds after the link is up, the node cannot ask for the router's MAC.
    // A VPC has no duplicates. The primary ENI is the system's.
    case .ipv6:
      guard table != .main else { return [] }
      (sysctl, wanted) = (try .interface(name, .ipv6, "accept_dad"), "0")
    }
    guard let found = try sysctl.read(), found != wanted else { return [] }
    return [.setting(sysctl, found: found, wanted: wanted)]
  }

  /// Whether the node can ask for the router's MAC on the link: with IPv6 that takes a link-local address whose duplicate
  /// detection has ended.
  package func reachesRouter(by link: UInt32, on socket: NetlinkSocket) throws(NetlinkError) -> Bool {
    guard address.family == .ipv6, table != .main else { return true }
    return try InterfaceAddress.list(link: link, family: .ipv6, on: socket).contains {
      $0.address.isLinkLocal && !$0.isTentative
    }
  }

  /// Some cloud agents (nm-cloud-setup) add every EC2 address of the ENI to the link. On a secondary ENI any foreign
  /// address is removed; other addresses of the primary belong to the system.
  private func podAddresses(on link: UInt32, _ socket: NetlinkSocket) throws -> [NodeDifference] {
    guard !slots.isEmpty else { return [] }
    return try InterfaceAddress.list(link: link, family: address.family, on: socket)
      .filter { found in found.address != address && slots.contains { $0.contains(found.address) } }
      .map(NodeDifference.foreignAddress)
  }

  private func addressDifferences(_ link: UInt32, on socket: NetlinkSocket) throws -> Found {
    // Without a prefix route the kernel does not add the subnet to table main, where it would divert the traffic of the
    // primary ENI's subnet to this ENI.
    let wanted = InterfaceAddress(
      address, prefixLength: subnet.length, on: link, noPrefixRoute: true, noDuplicateDetection: true)
    let present = try InterfaceAddress.list(link: link, family: address.family, on: socket)
    let isWanted = { (found: InterfaceAddress) in
      found.address == wanted.address && found.prefixLength == wanted.prefixLength
    }
    return (
      present.contains(where: isWanted) ? [] : [.missingAddress(wanted)],
      present.filter { $0.address.isGlobalUnicast && !isWanted($0) }.map(NodeDifference.foreignAddress)
    )
  }

  private func routeDifferences(_ link: UInt32, on socket: NetlinkSocket) throws -> Found {
    let everything = Route.everything(address.family)
    // The gateway's route first: the kernel requires it.
    let wanted =
      [
        Route(to: IPPrefix(single: gateway), table: table, device: link),
        Route(to: everything, table: table, device: link, gateway: gateway),
      ] + (address.family == .ipv4 ? [ENIWiring.dead(table)] : [])
    let present = try Route.list(table: table, family: address.family, on: socket)
    let missing = wanted.filter { route in !present.contains { $0.matches(route) } }
    // `replace` leaves a second default route with another metric.
    let defaults = present.filter { route in
      route.destination == everything && !wanted.contains { route.matches($0) }
        && !missing.contains { $0.destination == everything && $0.priority == route.priority }
    }
    let subnetRoutes = try Route.list(table: .main, family: address.family, device: link, on: socket)
      .filter { $0.destination == subnet && $0.gateway == nil }
    return (missing.map(NodeDifference.missingRoute), (defaults + subnetRoutes).map(NodeDifference.foreignRoute))
  }

  /// The fallback while the link is down and its routes are gone: without it the rules would fall through to `main`,
  /// and packets would leave by the primary ENI with addresses that are not its own.
  private static func dead(_ table: RouteTable) -> Route {
    Route(to: Route.everything(.ipv4), table: table, kind: .unreachable, priority: UInt32.max)
  }

  private func ruleDifferences(on socket: NetlinkSocket) throws -> Found {
    let source = IPPrefix(single: address)
    let rules = try PolicyRule.list(address.family, on: socket)
    var missing: [PolicyRule] = []
    // A rule of the machine image's own setup also counts, whatever its priority.
    if !rules.contains(where: { $0.isPlain(from: source, to: table) }) {
      missing.append(
        PolicyRule(family: address.family, priority: RulePriority.fromENI, from: source, table: table))
    }
    let byMark = mark.map {
      PolicyRule(family: address.family, priority: RulePriority.fromPod, mark: $0, table: table)
    }
    if let byMark, !rules.contains(byMark) { missing.append(byMark) }
    var seen: Set<PolicyRule> = []
    let foreign = rules.filter { rule in
      guard rule.table == table, rule.isLookup else { return false }
      switch rule.priority {
      case RulePriority.fromENI: return rule.source != source || !seen.insert(rule).inserted
      case RulePriority.fromPod where rule.mark != nil && rule.source == nil:
        return rule != byMark && !(byMark == nil && keepsMarkRule) || !seen.insert(rule).inserted
      default: return false
      }
    }
    return (missing.map(NodeDifference.missingRule), foreign.map(NodeDifference.foreignRule))
  }
}

extension ENIWiring {
  /// Removes the state of `apply` outside the link: the rules of priority 1536 and 32765 for the table, then the
  /// table's routes. For a detached ENI, whose link (with its addresses) is gone or going.
  ///
  /// - Parameter table: never `main` or `local`, for which nothing is done.
  /// - Returns: what was removed; empty if nothing was left.
  @discardableResult
  package static func remove(
    table: RouteTable, family: AddressFamily, on socket: NetlinkSocket
  ) throws -> [NodeDifference] {
    guard table != .main, table != .local, table.number != 0 else { return [] }
    let priorities = [RulePriority.fromENI, RulePriority.fromPod]
    let rules = try PolicyRule.list(family, on: socket)
      .filter { $0.table == table && priorities.contains($0.priority) && $0.isLookup }
    // The default route is deleted before the gateway's.
    let routes = try Route.list(table: table, family: family, on: socket)
      .sorted { $0.destination.length < $1.destination.length }
    let found = rules.map(NodeDifference.foreignRule) + routes.map(NodeDifference.foreignRoute)
    try NodeDifference.mend(found, on: socket)
    return found
  }

  /// Removes leftovers of ENIs that are gone with their links: their rules, and tables that contain only the agent's
  /// fallback route. A packet that matches such a rule would be dropped although another ENI has the address by now.
  ///
  /// - Parameter tables: the tables of attached ENIs. Rules of tables with any other route are kept.
  /// - Returns: what was removed.
  @discardableResult
  package static func removeDead(
    besides tables: Set<RouteTable>, family: AddressFamily, on socket: NetlinkSocket
  ) throws -> [NodeDifference] {
    let rules = try PolicyRule.list(family, on: socket).filter { rule in
      guard rule.isLookup, !tables.contains(rule.table) else { return false }
      return rule.priority == RulePriority.fromENI
        || rule.priority == RulePriority.fromPod && rule.mark != nil && rule.source == nil
    }
    var removed: [NodeDifference] = []
    for table in Set(rules.map(\.table)) {
      let routes = try Route.list(table: table, family: family, on: socket)
      guard !routes.isEmpty, routes.allSatisfy({ $0.matches(dead(table)) }) else { continue }
      removed += try remove(table: table, family: family, on: socket)
    }
    return removed
  }

  /// The table of an existing rule `from ADDRESS`, as machine images set up ENIs of other cards; nil if there is none.
  /// Contract §8.2: that table is used instead of the computed one.
  package static func existingTable(
    for address: IPAddress, on socket: NetlinkSocket
  ) throws(NetlinkError) -> RouteTable? {
    let source = IPPrefix(single: address)
    return try PolicyRule.list(address.family, on: socket)
      .first { $0.isPlain(from: source, to: $0.table) && $0.priority != RulePriority.fromPod }?.table
  }
}

extension PolicyRule {
  /// Whether the rule is exactly `from SOURCE lookup TABLE`.
  fileprivate func isPlain(from source: IPPrefix, to table: RouteTable) -> Bool {
    isLookup && self.source == source && self.table == table && destination == nil && mark == nil && input == nil
      && output == nil
  }
}

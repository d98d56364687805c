// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Kernel notifications since the last read: which objects changed, not their current state.
///
/// A value: collects notifications, each object once. Too many objects count as lost: then everything is checked.
package struct NodeChanges: Sendable, Hashable {
  /// The notifications about one link.
  package struct LinkChange: Sendable, Hashable {
    /// As last reported; nil if the link is gone.
    package var now: Link?
    /// As first reported in this period.
    package var first: Link
    /// It was down, so its routes may have gone without a notification.
    package var wasDown: Bool
  }

  /// Notifications were lost: everything may have changed.
  package var isLost = false
  package private(set) var addedRules: Set<PolicyRule> = []
  package private(set) var removedRules: Set<PolicyRule> = []
  package private(set) var addedRoutes: Set<Route> = []
  package private(set) var removedRoutes: Set<Route> = []
  /// By index.
  package private(set) var links: [UInt32: LinkChange] = [:]
  /// Links whose addresses changed.
  package private(set) var addresses: Set<UInt32> = []
  /// Links whose settings changed.
  package private(set) var settings: Set<UInt32> = []
  /// Changed nftables tables of IPv4 and IPv6.
  package private(set) var tables: Set<String> = []
  /// Changed chains of iptables-nft that the agent writes to; empty text for a whole table.
  package private(set) var iptablesChains: Set<String> = []
  /// The authors of the changes, as far as the kernel reports them.
  package private(set) var origin = Origin()

  /// Traces of the author.
  package struct Origin: Sendable, Hashable {
    /// Ports of netlink sockets, often process IDs; at most 16.
    package var ports: Set<UInt32> = []
    /// Programs of nftables' transactions, by name; at most 8.
    package var programs: Set<String> = []

    package init(ports: Set<UInt32> = [], programs: Set<String> = []) {
      self.ports = ports
      self.programs = programs
    }

    package mutating func merge(_ other: Origin) {
      ports.formUnion(other.ports.prefix(max(0, 16 - ports.count)))
      programs.formUnion(other.programs.prefix(max(0, 8 - programs.count)))
    }
  }

  package init() {}

  /// Objects kept at most. A flush of a full node's network touches 3,000.
  package static let limit = 16_384

  private var count: Int {
    addedRules.count + removedRules.count + addedRoutes.count + removedRoutes.count + links.count + addresses.count
      + settings.count + tables.count + iptablesChains.count
  }

  /// Drops details that are no longer needed, since everything is checked.
  private mutating func bound() {
    guard count > NodeChanges.limit else { return }
    let origin = origin
    self = NodeChanges()
    self.origin = origin
    isLost = true
  }

  package var isEmpty: Bool { self == NodeChanges() }

  /// The tables of iptables-nft that the agent writes.
  private static let iptablesTables: Set<String> = ["nat", "mangle"]

  /// kube-proxy writes thousands of rules to its own chains, which are not relevant.
  private static func isOfInterest(_ chain: String) -> Bool {
    chain.isEmpty || chain == "PREROUTING" || chain == "POSTROUTING" || IptablesPlan.owns(chain: chain)
      || IptablesSave.hints.contains(chain)
  }

  package mutating func add(_ notice: NetlinkMonitor.Notice) {
    switch notice.event {
    case .rule(let rule, false): addedRules.insert(rule)
    case .rule(let rule, true): removedRules.insert(rule)
    case .route(let route, false): addedRoutes.insert(route)
    case .route(let route, true): removedRoutes.insert(route)
    case .address(let address, _): addresses.insert(address.link)
    case .setting(let link): settings.insert(link)
    case .link(let link, let isRemoved):
      var change = links[link.index] ?? LinkChange(now: nil, first: link, wasDown: false)
      change.now = isRemoved ? nil : link
      change.wasDown = change.wasDown || !link.isUp
      links[link.index] = change
    case .lost: isLost = true
    }
    if notice.port != 0 { origin.merge(Origin(ports: [notice.port])) }
    bound()
  }

  package mutating func add(_ notice: NftablesMonitor.Notice) {
    switch notice.event {
    case .table(let name, _):
      tables.insert(name)
      if NodeChanges.iptablesTables.contains(name) { iptablesChains.insert("") }
    case .chain(let chain, let table, let family):
      tables.insert(table)
      if family == .ipv4, NodeChanges.iptablesTables.contains(table), NodeChanges.isOfInterest(chain) {
        iptablesChains.insert(chain)
      }
    case .committed(_, let program):
      if !program.isEmpty { origin.merge(Origin(programs: [program])) }
    case .lost: isLost = true
    }
    bound()
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// What of the node was made under other settings and is still in use. It goes on working beside today's until it ends:
/// a change of a setting must cost no running pod its network, and no open connection its way.
///
/// Nothing of it is written down: the kernel shows it, to this run of the agent and to the next.
package struct EarlierSettings: Sendable, Hashable {
  /// Beginnings of the names of running pods' host veths, other than today's; sorted.
  package var vethPrefixes: [String]
  /// Marks by which open connections are led to the primary ENI, other than today's; in the order of their rules.
  package var marks: [PacketMark]

  package init(vethPrefixes: [String] = [], marks: [PacketMark] = []) {
    self.vethPrefixes = vethPrefixes
    self.marks = marks
  }

  /// The beginnings of the names of all pods' host veths. A pod is recognised by what it is: a veth that is called as a
  /// plugin calls one, whatever the prefix, and to which the route of a pod leads. That is any route of the pods' table,
  /// and one of `main` where a rule `512: to POD lookup main` stands beside it.
  ///
  /// - Parameters:
  ///   - links: all of the node.
  ///   - routes: of both tables.
  package static func prefixes(links: some Sequence<Link>, rules: [PolicyRule], routes: [Route]) -> Set<String> {
    var names: [UInt32: String] = [:]
    for link in links where link.kind == "veth" {
      if let prefix = HostVethName.split(link.name)?.prefix { names[link.index] = prefix }
    }
    let ledToMain = Set(rules.lazy.filter { $0.priority == RulePriority.toPod }.compactMap(PodRules.address(of:)))
    var found: Set<String> = []
    for route in routes where route.destination.isSingle {
      guard let prefix = route.device.flatMap({ names[$0] }) else { continue }
      if route.table == .pods || route.table == .main && ledToMain.contains(route.destination.address) {
        found.insert(prefix)
      }
    }
    return found
  }

  /// The marks of the rules `1024: fwmark MARK lookup main`, other than today's.
  ///
  /// - Parameters:
  ///   - today: nil where the settings need none.
  ///   - taken: bits that have another meaning today, so that no earlier mark can be kept that has one of them.
  package static func marks(rules: [PolicyRule], today: PacketMark?, taken: UInt32) -> [PacketMark] {
    var found: [PacketMark] = []
    for rule in rules {
      guard let mark = rule.mark, NodeRules.isPrimaryMark(rule), mark != today, !found.contains(mark) else { continue }
      if mark.mask & (taken | (today?.mask ?? 0)) == 0 { found.append(mark) }
    }
    return found
  }
}

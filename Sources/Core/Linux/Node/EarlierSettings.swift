// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Node state that was created under other settings and is still in use. It keeps working beside the current state
/// until it ends: a settings change must not break running pods or open connections.
///
/// It is not persisted: the kernel shows it, to this run of the agent and to the next.
package struct EarlierSettings: Sendable, Hashable {
  /// Veth prefixes of running pods other than the current one; sorted.
  package var vethPrefixes: [String]
  /// Marks that route open connections by the primary ENI, other than the current one; in the order of their rules.
  package var marks: [PacketMark]

  package init(vethPrefixes: [String] = [], marks: [PacketMark] = []) {
    self.vethPrefixes = vethPrefixes
    self.marks = marks
  }

  /// The prefixes of all pods' host veths. A pod is recognized by a veth whose name has a plugin's form, with any
  /// prefix, and by a pod route to it: any route of the pods' table, or a route in `main` with a rule `512: to POD
  /// lookup main`.
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

  /// The marks of the rules `1024: fwmark MARK lookup main`, other than the current one.
  ///
  /// - Parameters:
  ///   - today: nil if the settings need none.
  ///   - taken: bits that have another meaning now; earlier marks with one of them cannot be kept.
  package static func marks(rules: [PolicyRule], today: PacketMark?, taken: UInt32) -> [PacketMark] {
    var found: [PacketMark] = []
    for rule in rules {
      guard let mark = rule.mark, NodeRules.isPrimaryMark(rule), mark != today, !found.contains(mark) else { continue }
      if mark.mask & (taken | (today?.mask ?? 0)) == 0 { found.append(mark) }
    }
    return found
  }
}

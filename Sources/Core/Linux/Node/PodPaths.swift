// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The desired kernel state for pods outside of their namespaces: each pod's veth and its route, in one of the two
/// schemes (contract §8.1 and §8.4, and docs/decisions/0004).
///
/// A value: kernel lists in, differences out. It reads and writes nothing.
package struct PodPaths: Sendable, Hashable {
  /// One pod's host side.
  package struct Pod: Sendable, Hashable {
    package var address: IPAddress
    /// The index of its host veth.
    package var veth: UInt32
    /// The gateway MAC in the pod's permanent neighbour entry; nil if unknown.
    package var mac: MACAddress?
    /// The table of the ENI that has the address; nil if that ENI is unknown, so that no rule can be created.
    package var eniTable: RouteTable?

    package init(address: IPAddress, veth: UInt32, mac: MACAddress? = nil, eniTable: RouteTable?) {
      self.address = address
      self.veth = veth
      self.mac = mac
      self.eniTable = eniTable
    }
  }

  /// The kernel's state, as far as it was read.
  package struct Sight: Sendable, Hashable {
    /// By index.
    package var links: [UInt32: Link]
    package var rules: [PolicyRule]
    /// Routes of the pods' table and of `main`; others are skipped.
    package var routes: [Route]
    /// Whose rules and routes were read. Of pods with an address of another family, from before a settings change, nothing
    /// is known.
    package var families: [AddressFamily]

    package init(
      links: [UInt32: Link], rules: [PolicyRule], routes: [Route], families: [AddressFamily] = AddressFamily.allCases
    ) {
      self.families = families
      self.links = links
      self.rules = rules
      self.routes = routes
    }

    /// Reads the rules and the routes of both tables.
    ///
    /// - Parameter links: as read by the caller: all, or those that matter.
    package init(
      _ families: [AddressFamily], links: [UInt32: Link], on socket: NetlinkSocket
    ) throws(NetlinkError) {
      self.init(links: links, rules: [], routes: [], families: families)
      for family in families {
        rules += try PolicyRule.list(family, on: socket)
        routes += try Route.list(table: .pods, family: family, on: socket)
        routes += try Route.list(table: .main, family: family, on: socket)
      }
    }
  }

  package var routing: HostRouting
  package var pods: [Pod]

  package init(routing: HostRouting, pods: [Pod]) {
    self.routing = routing
    self.pods = pods
  }

  private var otherTable: RouteTable { routing == .perPodRules ? .pods : .main }

  /// The one route to a pod.
  package func route(to pod: Pod) -> Route {
    Route(to: IPPrefix(single: pod.address), table: routing.routeTable, device: pod.veth)
  }

  package func rules(of pod: Pod) -> [PolicyRule] {
    guard routing == .perPodRules else { return [] }
    return PodRules.rules(pod: pod.address, table: pod.eniTable ?? .main)
  }

  /// Missing or wrong objects per pod; a pod whose veth is gone has ended and needs nothing.
  package func faults(in sight: Sight) -> [IPAddress: [NodeDifference]] {
    let routes = Dictionary(
      sight.routes.filter { $0.table == routing.routeTable && $0.destination.isSingle }
        .map { ($0.destination.address, $0) }, uniquingKeysWith: { first, _ in first })
    let rules = routing == .perPodRules ? Set(sight.rules) : []
    var faults: [IPAddress: [NodeDifference]] = [:]
    for pod in pods where sight.families.contains(pod.address.family) {
      guard let link = sight.links[pod.veth], link.kind == "veth" else { continue }
      var found: [NodeDifference] = []
      if let mac = pod.mac, link.mac != mac { found.append(.mac(link: link.index, found: link.mac, wanted: mac)) }
      if !link.isUp { found.append(.linkDown(link.index)) }
      let wanted = route(to: pod)
      switch routes[pod.address] {
      case nil: found.append(.missingPodRoute(wanted))
      // By another veth, or by no veth at all.
      case let other? where !other.matches(wanted): found.append(.missingRoute(wanted))
      default: break
      }
      found += self.rules(of: pod).filter { !rules.contains($0) }.map(NodeDifference.missingRule)
      if !found.isEmpty { faults[pod.address] = found }
    }
    return faults
  }

  /// Leftovers of the other scheme, or of pods that ended unnoticed.
  ///
  /// - Parameters:
  ///   - isOurs: whether EC2 assigned the address to this node for pods: all others are not touched.
  ///   - stands: whether the pod's packets are routed without the leftovers. Otherwise nothing is removed for the pod.
  ///   - isVeth: whether a link is the host end of a pod's pair.
  package func leftovers(
    in sight: Sight, isOurs: (IPAddress) -> Bool, stands: (Pod) -> Bool, isVeth: (UInt32) -> Bool
  ) -> [NodeDifference] {
    let known = Dictionary(pods.map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })
    var verdicts: [IPAddress: Bool] = [:]
    func mayGo(_ address: IPAddress) -> Bool {
      if let verdict = verdicts[address] { return verdict }
      let verdict = isOurs(address) && (known[address].map(stands) ?? true)
      verdicts[address] = verdict
      return verdict
    }
    let rules = sight.rules.filter { rule in
      guard let address = PodRules.address(of: rule), mayGo(address) else { return false }
      guard routing == .perPodRules, let pod = known[address] else { return true }
      // The pod's own two rules stay; a rule for another table belongs to an earlier pod.
      return !self.rules(of: pod).contains(rule)
    }
    let routes = sight.routes.filter { route in
      guard route.destination.isSingle, route.kind == .unicast, route.table == otherTable, let device = route.device,
        isVeth(device)
      else { return false }
      return mayGo(route.destination.address)
    }
    return rules.map(NodeDifference.foreignRule) + routes.map(NodeDifference.foreignRoute)
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// What the node's kernel must hold for its pods outside of their namespaces: each one's veth and the way to it, by one
/// of the two schemes (contract §8.1 and §8.4, and docs/decisions/0004).
///
/// A value: lists of the kernel's in, differences out. It reads and writes nothing.
package struct PodPaths: Sendable, Hashable {
  /// One pod's host side.
  package struct Pod: Sendable, Hashable {
    package var address: IPAddress
    /// The index of its host veth.
    package var veth: UInt32
    /// What the pod's permanent neighbour entry says of its gateway; nil where nobody knows.
    package var mac: MACAddress?
    /// The table of the ENI that has the address; nil where that ENI is not known, so that no rule can be made.
    package var eniTable: RouteTable?

    package init(address: IPAddress, veth: UInt32, mac: MACAddress? = nil, eniTable: RouteTable?) {
      self.address = address
      self.veth = veth
      self.mac = mac
      self.eniTable = eniTable
    }
  }

  /// What the kernel holds, as far as it was asked.
  package struct Sight: Sendable, Hashable {
    /// By index.
    package var links: [UInt32: Link]
    package var rules: [PolicyRule]
    /// Of the pods' table and of `main`; others are passed over.
    package var routes: [Route]

    package init(links: [UInt32: Link], rules: [PolicyRule], routes: [Route]) {
      self.links = links
      self.rules = rules
      self.routes = routes
    }

    /// Reads the rules and the routes of both tables.
    ///
    /// - Parameter links: as read by the caller: all, or those that matter.
    package init(_ family: AddressFamily, links: [UInt32: Link], on socket: NetlinkSocket) throws(NetlinkError) {
      self.init(
        links: links, rules: try PolicyRule.list(family, on: socket),
        routes: try Route.list(table: .pods, family: family, on: socket)
          + Route.list(table: .main, family: family, on: socket))
    }
  }

  package var routing: HostRouting
  package var pods: [Pod]

  package init(routing: HostRouting, pods: [Pod]) {
    self.routing = routing
    self.pods = pods
  }

  private var otherTable: RouteTable { routing == .perPodRules ? .pods : .main }

  /// The one way to a pod.
  package func route(to pod: Pod) -> Route {
    Route(to: IPPrefix(single: pod.address), table: routing.routeTable, device: pod.veth)
  }

  package func rules(of pod: Pod) -> [PolicyRule] {
    guard routing == .perPodRules else { return [] }
    return PodRules.rules(pod: pod.address, table: pod.eniTable ?? .main)
  }

  /// What is missing or wrong, pod by pod; a pod whose veth is gone has ended and lacks nothing.
  package func faults(in sight: Sight) -> [IPAddress: [NodeDifference]] {
    let routes = Dictionary(
      sight.routes.filter { $0.table == routing.routeTable && $0.destination.isSingle }
        .map { ($0.destination.address, $0) }, uniquingKeysWith: { first, _ in first })
    let rules = routing == .perPodRules ? Set(sight.rules) : []
    var faults: [IPAddress: [NodeDifference]] = [:]
    for pod in pods {
      guard let link = sight.links[pod.veth], link.kind == "veth" else { continue }
      var found: [NodeDifference] = []
      if let mac = pod.mac, link.mac != mac { found.append(.mac(link: link.index, found: link.mac, wanted: mac)) }
      if !link.isUp { found.append(.linkDown(link.index)) }
      let wanted = route(to: pod)
      switch routes[pod.address] {
      case nil: found.append(.missingPodRoute(wanted))
      // By another veth, or not by one at all.
      case let other? where !other.matches(wanted): found.append(.missingRoute(wanted))
      default: break
      }
      found += self.rules(of: pod).filter { !rules.contains($0) }.map(NodeDifference.missingRule)
      if !found.isEmpty { faults[pod.address] = found }
    }
    return faults
  }

  /// What the other scheme, or a pod that ended while nobody looked, has left behind.
  ///
  /// - Parameters:
  ///   - isOurs: whether an address is one that EC2 has given to this node for pods: of all others nothing is touched.
  ///   - stands: whether the pod's packets find their way without what is left behind. Of a pod for which that does not
  ///     hold nothing is taken away.
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
      // Of the pod's own two rules none goes; one that leads to another table is an earlier pod's.
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

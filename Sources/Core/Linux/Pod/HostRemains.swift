// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A pod's state on the host, identified by its address, and its removal.
///
/// The plugin removes it on DEL if no agent does; the agent removes it after answering DEL.
package struct HostRemains: Sendable, Hashable {
  /// The result of `remove`.
  package enum Outcome: Sendable, Hashable {
    /// The pod's state existed and was removed.
    case removed
    /// Nothing was there.
    case alreadyGone
    /// The address is routed to another pod's interface, named here: nothing was touched.
    case foreign(String)
  }

  /// The pod's address.
  package let address: IPAddress
  /// The last part of the host veth's name, `HostVethName.suffix`: an interface with another name belongs to another
  /// pod.
  package let vethSuffix: String
  /// The table of the per-pod rule 1536; main or nil for none. Harmless if the pod had no rules.
  package let eniTable: RouteTable?
  /// Whether to delete the veth too, which takes the kernel 8 to 20 ms; otherwise it goes with the pod's namespace.
  package let deletesVeth: Bool

  package init(address: IPAddress, vethSuffix: String, eniTable: RouteTable?, deletesVeth: Bool) {
    self.address = address
    self.vethSuffix = vethSuffix
    self.eniTable = eniTable
    self.deletesVeth = deletesVeth
  }

  /// Removes the host route, the per-pod rules and, if requested, the veth: found as the route's output device, its
  /// name checked, deleted by index. So a late or repeated call cannot hit a newer pod with the same name (another
  /// address) or the same address (another name).
  ///
  /// - Parameter host: a socket of the node's namespace.
  package func remove(on host: NetlinkSocket) throws(NetlinkError) -> Outcome {
    let route = try findRoute(on: host)
    var link: Link?
    if let device = route?.device { link = try Link.find(index: device, on: host) }
    if let link, !link.name.hasSuffix(vethSuffix) { return .foreign(link.name) }
    var requests = ruleDeletions
    if let route { requests.append(.delete(route)) }
    if deletesVeth, let link { requests.append(.deleteLink(link.index)) }
    var outcome = Outcome.alreadyGone
    for result in try host.performEach(requests) where try result.get() == .done { outcome = .removed }
    return outcome
  }

  /// Also removes the additional host state of a pod with a branch ENI: the VLAN link and every priority-10 rule of its
  /// table. `eniTable` is then the VLAN's, id + 100.
  ///
  /// Source: contract of amazon-vpc-cni-k8s v1.23, section 8.5.
  package func removeBranch(vlan: Int, on host: NetlinkSocket) throws(NetlinkError) {
    let table = RouteTable(UInt32(vlan) + 100)
    var requests = ruleDeletions
    for rule in try PolicyRule.list(address.family, on: host) where rule.priority == 10 && rule.table == table {
      requests.append(.delete(rule))
    }
    if let name = InterfaceName("vlan.eth.\(vlan)") { requests.append(.deleteLink(named: name)) }
    try host.perform(requests)
  }

  private var ruleDeletions: [NetlinkRequest] {
    PodInterface.rules(address: address, eniTable: eniTable ?? .main).map { .delete($0) }
  }

  /// The pod's host route, in the pods' table or in main.
  private func findRoute(on host: NetlinkSocket) throws(NetlinkError) -> Route? {
    let destination = IPPrefix(single: address)
    for table in [RouteTable.pods, .main] {
      if let route = try Route.find(destination, table: table, on: host).first { return route }
    }
    return nil
  }
}

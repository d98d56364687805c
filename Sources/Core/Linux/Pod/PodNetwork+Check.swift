// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

extension PodInterface {
  /// Compares the kernel's state with what ADD made, and names the first thing that differs.
  ///
  /// Checks: both ends of the veth pair, that they are peers, up and have the same MTU; the pod's address, routes,
  /// neighbour entry and rule; the host route, in the pods' table or in main, and the rules for it.
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  /// - Throws: code `differs`; `kernel` if the kernel cannot be read.
  package func check(pod: NetlinkSocket, host: NetlinkSocket) throws(PodNetworkError) {
    do {
      let (hostEnd, podEnd) = try checkLinks(pod: pod, host: host)
      try checkPod(podEnd, hostEnd, pod: pod)
      try checkHost(hostEnd, host: host)
    } catch let error as PodNetworkError {
      throw error
    } catch {
      throw PodNetworkError(.kernel, "check the wiring of \(address)", cause: error)
    }
  }

  private func differs(_ text: String) -> PodNetworkError { PodNetworkError(.differs, text) }

  private func checkLinks(pod: NetlinkSocket, host: NetlinkSocket) throws -> (host: Link, pod: Link) {
    guard let hostEnd = try Link.find(named: hostName, on: host) else {
      throw differs("host interface \(hostName) is missing")
    }
    guard let podEnd = try Link.find(named: podName, on: pod) else {
      throw differs("interface \(podName) is missing in the pod")
    }
    for (link, place) in [(hostEnd, "host interface"), (podEnd, "pod interface")] {
      guard link.kind == "veth" else { throw differs("\(place) \(link.name) is not a veth") }
      guard link.isUp else { throw differs("\(place) \(link.name) is down") }
    }
    guard hostEnd.peerIndex == podEnd.index, podEnd.peerIndex == hostEnd.index, podEnd.peerNamespaceID != nil else {
      throw differs("\(hostName) on the host and \(podName) in the pod are not the ends of one pair")
    }
    guard hostEnd.mtu == podEnd.mtu else {
      throw differs("mtu is \(hostEnd.mtu) on \(hostName) and \(podEnd.mtu) on \(podName)")
    }
    return (hostEnd, podEnd)
  }

  private func checkPod(_ link: Link, _ hostEnd: Link, pod: NetlinkSocket) throws {
    let addresses = try InterfaceAddress.list(link: link.index, family: address.family, on: pod)
    guard addresses.contains(where: { $0.address == address && $0.prefixLength == address.family.bitWidth }) else {
      throw differs("address \(address)/\(address.family.bitWidth) is missing on \(podName)")
    }
    let routes = try Route.list(table: podTable, family: address.family, device: link.index, on: pod)
    for wanted in podRoutes(link: link.index) where !routes.contains(where: { $0.matches(wanted) }) {
      let name = wanted.destination.length == 0 ? "default route via \(gateway)" : "route to \(wanted.destination)"
      throw differs("\(name) is missing in the pod")
    }
    let neighbour = try Neighbour.find(gateway, link: link.index, on: pod)
    guard let neighbour, neighbour.isPermanent else {
      throw differs("permanent neighbour entry for \(gateway) is missing in the pod")
    }
    guard neighbour.mac == hostEnd.mac else {
      let (found, wanted) = (neighbour.mac.map(String.init) ?? "nothing", hostEnd.mac.map(String.init) ?? "nothing")
      throw differs("neighbour entry for \(gateway) has \(found) in place of \(wanted), which is \(hostName)'s")
    }
    if let podRule, try !PolicyRule.list(address.family, on: pod).contains(podRule) {
      throw differs("rule \(podRule) is missing in the pod")
    }
  }

  private func checkHost(_ link: Link, host: NetlinkSocket) throws {
    let destination = IPPrefix(single: address)
    let rules = try PolicyRule.list(address.family, on: host)
    for table in [RouteTable.pods, .main] {
      guard let route = try Route.find(destination, table: table, on: host).first else { continue }
      guard route.device == link.index else {
        throw differs("host route to \(address) in table \(table) does not lead to \(hostName)")
      }
      let wanted =
        table == .main
        ? PodInterface.rules(address: address, eniTable: eniTable)
        : [PolicyRule(family: address.family, priority: RulePriority.toPod, table: .pods)]
      for rule in wanted where !rules.contains(rule) { throw differs("rule \(rule) is missing on the host") }
      return
    }
    throw differs("host route to \(address) is missing in tables \(RouteTable.pods) and \(RouteTable.main)")
  }
}

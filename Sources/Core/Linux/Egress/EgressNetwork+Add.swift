// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
internal import VPCSystem

extension EgressNetwork {
  /// Creates the interface completely or not at all.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  ///   - node: the node's namespace, in which the calling thread must be: sysctls belong to it.
  ///   - namespace: the pod's; entered on the calling thread for IPv6.
  ///   - primary: the pod's first interface, on which IPv6 is switched off for IPv6 egress.
  /// - Throws: `PodNetworkError`. Everything created is removed then.
  package func add(
    pod: NetlinkSocket, host: NetlinkSocket, node: NetworkNamespace, namespace: NetworkNamespace,
    primary: InterfaceName
  ) throws(PodNetworkError) -> EgressLink {
    guard let podName = EgressNetwork.podName(address.family) else {
      throw PodNetworkError(.unsupported, "no name for the interface")
    }
    var made: EgressLink?
    do {
      switch address.family {
      case .ipv4: _ = try Sysctl("net", "ipv4", "ip_forward").write("1")
      case .ipv6: try switchOff(primary, in: namespace)
      }
      let link = try EgressLink.make(podName, mtu: mtu, pod: pod, node: node)
      made = link
      if address.family == .ipv6 { try prepareIPv6(podName, in: namespace) }
      try setUpHost(link, host)
      try pod.perform(podRequests(link))
      try addRoute(link, host)
      return link
    } catch {
      if let made { undo(made, on: host) }
      if let error = error as? PodNetworkError { throw error }
      throw PodNetworkError(.kernel, "set up \(podName) with \(address)", cause: error)
    }
  }

  /// Removes what `add` has made. IPv6 stays off on the pod's first interface: a pod whose ADD failed does not run.
  package func undo(_ link: EgressLink, on host: NetlinkSocket) {
    // The pod's DEL removes what cannot be undone; the failure is reported by the caller.
    _ = try? host.perform(.deleteLink(link.hostIndex))
  }

  // MARK: pod

  /// In IPv4 the kernel's route to the subnet is replaced: other pods' addresses are behind the gateway, not on the link.
  private func podRequests(_ link: EgressLink) -> [NetlinkRequest] {
    let device = link.podIndex
    // One other end on the link: a search for duplicates takes seconds and finds nothing (docs/decisions/0062).
    var requests: [NetlinkRequest] = [
      .add(InterfaceAddress(address, prefixLength: prefixLength, on: device, noDuplicateDetection: true))
    ]
    guard address.family == .ipv4, let subnet = IPPrefix(containing: address, length: prefixLength) else {
      let router = link.hostMAC.linkLocalAddress
      return requests + destinations.map { .add(Route(to: $0, device: device, gateway: router)) }
    }
    requests += [
      .delete(Route(to: subnet, device: device)),
      .add(Route(to: IPPrefix(single: gateway), device: device, source: address, scope: .link)),
      .add(Route(to: subnet, device: device, gateway: gateway, source: address)),
    ]
    return requests + destinations.map { .add(Route(to: $0, device: device, gateway: gateway)) }
  }

  /// Otherwise the interface would have a second IPv6 path.
  private func switchOff(_ primary: InterfaceName, in namespace: NetworkNamespace) throws {
    let (outcome, hasIPv6) = try namespace.runOnThisThread { () throws(any Error) -> (NetlinkOutcome, Bool) in
      let outcome = try Sysctl.interface(primary, .ipv6, "disable_ipv6").write("1")
      let hasIPv6 = try outcome != .alreadyGone || Sysctl("net", "ipv6", "conf", "all", "disable_ipv6").read() != nil
      return (outcome, hasIPv6)
    }
    guard outcome == .alreadyGone else { return }
    throw PodNetworkError(
      .unsupported,
      hasIPv6
        ? "the pod has no interface \(primary): egress-cni follows aws-cni in a conflist"
        : "the kernel has no IPv6 (boot parameter ipv6.disable=1): remove the parameter, or set ENABLE_V6_EGRESS=false")
  }

  /// Some container runtimes switch IPv6 off in a new namespace.
  private func prepareIPv6(_ podName: InterfaceName, in namespace: NetworkNamespace) throws {
    try namespace.runOnThisThread { () throws(any Error) -> Void in
      _ = try Sysctl.allowIPv6(on: podName)
      _ = try Sysctl.interface(podName, .ipv6, "keep_addr_on_down").write("1")
    }
  }

  // MARK: host

  /// The host's end accepts no routers from a pod, and has one address: the gateway, or the link-local address that the
  /// pod's default route leads to.
  private func setUpHost(_ link: EgressLink, _ host: NetlinkSocket) throws {
    // A kernel without IPv6 has no such setting.
    _ = try Sysctl.interface(link.hostName, .ipv6, "accept_ra").writeBlindly("0")
    let own =
      address.family == .ipv4
      ? InterfaceAddress(gateway, on: link.hostIndex, scope: .link)
      : InterfaceAddress.hostEnd(link.hostMAC, on: link.hostIndex)
    do throws(NetlinkError) {
      try host.perform([.setNoLinkLocalAddress(on: link.hostIndex), .setUp(link.hostIndex), .add(own)])
    } catch {
      guard address.family == .ipv6, error.errno == EACCES else { throw error }
      throw PodNetworkError(
        .unsupported,
        "no link-local IPv6 address for host interface \(link.hostName): IPv6 is switched off on the node; set net.ipv6.conf.all.disable_ipv6=0 and net.ipv6.conf.default.disable_ipv6=0",
        cause: error)
    }
  }

  /// How often the route of an earlier pod with this address is waited for: it goes with that pod's veth.
  private static let routeAttempts = 5
  private static let routePause: useconds_t = 100_000

  private func addRoute(_ link: EgressLink, _ host: NetlinkSocket) throws {
    let route = Route(to: IPPrefix(single: address), device: link.hostIndex)
    for attempt in 1...EgressNetwork.routeAttempts {
      do throws(NetlinkError) {
        _ = try host.perform(.add(route))
        return
      } catch {
        guard error.code == .exists else { throw error }
        guard attempt < EgressNetwork.routeAttempts else { throw try stale(host, error) }
      }
      usleep(EgressNetwork.routePause)
    }
  }

  private func stale(_ host: NetlinkSocket, _ cause: NetlinkError) throws(NetlinkError) -> PodNetworkError {
    let found = try Route.find(IPPrefix(single: address), table: .main, on: host).first
    var holder = "\(address)"
    if let index = found?.device, let link = try Link.find(index: index, on: host) { holder += " dev \(link.name)" }
    return PodNetworkError(
      .kernel,
      "stale route still exists after \(EgressNetwork.routeAttempts) attempts: another pod has the address, or the route is left over; if no pod uses it: ip route del \(holder)",
      cause: cause)
  }
}

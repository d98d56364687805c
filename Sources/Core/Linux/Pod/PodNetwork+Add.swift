// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

extension PodNetwork {
  /// Creates the wiring completely or not at all.
  ///
  /// For each interface: the veth pair (`PodVeth`); the host route and rules in one system call; the pod's address,
  /// routes and neighbour entry in another.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  ///   - node: the node's namespace, in which the calling thread must be: the sysctls belong to it.
  ///   - namespace: the pod's; entered only for an IPv6 address.
  ///   - prepared: the first interface's pair, if it already exists; it is used, and deleted after a failure.
  /// - Throws: `PodNetworkError`. Everything created is removed then; a host route or rule that already existed may be
  ///   removed too. Source: contract of amazon-vpc-cni-k8s v1.23, section 8.4.
  package func add(
    pod: NetlinkSocket, host: NetlinkSocket, node: NetworkNamespace, namespace: NetworkNamespace,
    prepared: PodVeth? = nil
  ) throws(PodNetworkError) {
    var made = Made()
    if let prepared { made.links.append(prepared.hostIndex) }
    do throws(PodNetworkError) {
      for interface in interfaces {
        let veth: PodVeth
        if let prepared, prepared.hostName == interface.hostName, prepared.podName == interface.podName {
          veth = prepared
        } else {
          veth = try PodVeth.make(
            hostName: interface.hostName, podName: interface.podName, mtu: mtu, pod: pod, host: host, node: node)
          made.links.append(veth.hostIndex)
        }
        if interface.address.family == .ipv6 { try interface.allowIPv6(in: namespace) }
        try connect(interface, to: veth, host: host, made: &made)
        try wire(interface, to: veth, pod: pod)
      }
    } catch {
      made.undo(on: host)
      throw error
    }
  }

  /// What has to be undone.
  private struct Made {
    var links: [UInt32] = []
    var rules: [PolicyRule] = []

    /// In reverse: rules, then the links, with which addresses, routes and neighbour entries go.
    func undo(on host: NetlinkSocket) {
      let requests = rules.reversed().map { NetlinkRequest.delete($0) } + links.reversed().map { .deleteLink($0) }
      // The first failure is reported; the pod's DEL removes what cannot be undone.
      _ = try? host.performEach(requests)
    }
  }

  /// The pod's side. The link is up from its creation. An IPv6 address is usable at once: duplicate detection, which takes
  /// one to two seconds, could find nothing on a link with one other end (docs/decisions/0061).
  private func wire(_ interface: PodInterface, to veth: PodVeth, pod: NetlinkSocket) throws(PodNetworkError) {
    var requests: [NetlinkRequest] = [
      .add(InterfaceAddress(interface.address, on: veth.podIndex, noDuplicateDetection: true))
    ]
    requests += interface.podRoutes(link: veth.podIndex).map { .add($0) }
    requests.append(.add(Neighbour(interface.gateway, mac: veth.mac, on: veth.podIndex)))
    if let rule = interface.podRule { requests.append(.add(rule)) }
    do {
      try pod.perform(requests)
    } catch {
      throw PodNetworkError(.kernel, "set up \(interface.podName) with \(interface.address)", cause: error)
    }
  }

  /// The host's side.
  private func connect(
    _ interface: PodInterface, to veth: PodVeth, host: NetlinkSocket, made: inout Made
  ) throws(PodNetworkError) {
    do {
      let route = Route(to: IPPrefix(single: interface.address), table: routing.routeTable, device: veth.hostIndex)
      // Replaced, since the agent decides who has the address; an existing route belongs to a pod that is gone.
      var requests: [NetlinkRequest] =
        interface.address.family == .ipv6 ? [.add(.hostEnd(veth.mac, on: veth.hostIndex))] : []
      requests.append(.replace(route))
      let rules = interface.rules(routing)
      if case .perPodRules = routing {
        // A rule left by an earlier pod of this address may name another ENI's table.
        requests.append(.delete(interface.fromRule(table: RouteTable(0))))
      }
      let first = requests.count
      requests += rules.map { .add($0) }
      let results = try host.performEach(requests)
      for (rule, result) in zip(rules, results[first...]) where (try? result.get()) == .done { made.rules.append(rule) }
      for result in results { _ = try result.get() }
    } catch {
      throw interface.hostFailure(error)
    }
  }
}

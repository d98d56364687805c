// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

extension PodNetwork {
  /// Makes the wiring, all of it or nothing.
  ///
  /// For each interface: the veth pair in one request, both ends where they belong; the host end's sysctls; the host end
  /// up, the host route and rules in one system call; the pod's address, routes and neighbour entry in another. A veth of the same name that the host still has, of an earlier pod of that name, is deleted first.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  ///   - node: the node's namespace, in which the calling thread must be: the sysctls are its.
  /// - Throws: `PodNetworkError`. Whatever had been made is gone then; a host route or rule that stood before and was
  ///   taken over may be gone too.
  /// Source: contract of amazon-vpc-cni-k8s v1.23, section 8.4.
  package func add(
    pod: NetlinkSocket, host: NetlinkSocket, node: NetworkNamespace
  ) throws(PodNetworkError) {
    guard interfaces.allSatisfy({ $0.address.family == .ipv4 }) else {
      throw PodNetworkError(.unsupported, "pods with IPv6 addresses are not supported")
    }
    var made = Made()
    do throws(PodNetworkError) {
      for interface in interfaces {
        let veth = try createVeth(interface, pod: pod, host: host, node: node)
        made.links.append(veth.hostIndex)
        // The host end first: the pair then has its carrier, without which the pod's routes would begin as `linkdown`.
        try connect(interface, to: veth, host: host, made: &made)
        try wire(interface, to: veth, pod: pod)
      }
    } catch {
      made.undo(on: host)
      throw error
    }
  }

  /// A veth pair that was made.
  private struct Pair {
    let hostIndex: UInt32
    let podIndex: UInt32
    /// The host end's.
    let mac: MACAddress
  }

  /// What has to be undone.
  private struct Made {
    var links: [UInt32] = []
    var rules: [PolicyRule] = []

    /// In reverse: rules, then the links, with which addresses, routes and neighbour entries go.
    func undo(on host: NetlinkSocket) {
      let requests = rules.reversed().map { NetlinkRequest.delete($0) } + links.reversed().map { .deleteLink($0) }
      // The first failure is the one to tell; what cannot be undone the pod's DEL removes.
      _ = try? host.performEach(requests)
    }
  }

  /// How often a host interface that is in the way is deleted before its coming back is an error.
  private static let attempts = 3

  private func createVeth(
    _ interface: PodInterface, pod: NetlinkSocket, host: NetlinkSocket, node: NetworkNamespace
  ) throws(PodNetworkError) -> Pair {
    var generator = SystemRandomNumberGenerator()
    // The contract asks for a MAC that no other link has. Among 2^46 no second one is looked for: it would mean to list
    // every link at each pod's start.
    let mac = MACAddress.randomLocal(using: &generator)
    // Asked for in the pod's namespace: the kernel makes the far end first and could not set it up without the near one,
    // while the near one can be up, and take routes, from its creation.
    let podEnd = VethEnd(name: interface.podName, mtu: mtu, isUp: true)
    let hostEnd = VethEnd(name: interface.hostName, mac: mac, mtu: mtu)
    let create = { () throws(NetlinkError) -> Pair in
      let link = try Link.createVeth(podEnd, peer: hostEnd, in: node, on: pod)
      guard let hostIndex = link.peerIndex else {
        throw NetlinkError(code: .malformed, request: "create veth \(interface.hostName)")
      }
      return Pair(hostIndex: hostIndex, podIndex: link.index, mac: mac)
    }
    do {
      for _ in 1..<PodNetwork.attempts {
        do throws(NetlinkError) {
          return try create()
        } catch {
          guard error.code == .exists else { throw error }
        }
        // Which of the two names is taken the kernel does not say.
        if try Link.find(named: interface.podName, on: pod) != nil { break }
        guard let old = try Link.find(named: interface.hostName, on: host) else { continue }
        guard old.kind == "veth" else {
          throw PodNetworkError(.notOurs, "\(interface.hostName) exists on the host and is \(old.kind ?? "a device")")
        }
        // By index: a new one of the same name must not be hit. The agent may be deleting it as well.
        try host.perform(.deleteLink(old.index))
      }
      if try Link.find(named: interface.podName, on: pod) != nil {
        throw PodNetworkError(.interfaceExists, "interface \(interface.podName) exists already in the pod's namespace")
      }
      return try create()
    } catch let error as PodNetworkError {
      throw error
    } catch {
      throw PodNetworkError(.kernel, "make veth pair \(interface.hostName) for \(interface.address)", cause: error)
    }
  }

  /// The pod's side. The link is up from its creation.
  private func wire(_ interface: PodInterface, to veth: Pair, pod: NetlinkSocket) throws(PodNetworkError) {
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
    _ interface: PodInterface, to veth: Pair, host: NetlinkSocket, made: inout Made
  ) throws(PodNetworkError) {
    do {
      try PodNetwork.quiet(interface.hostName)
      let route = Route(to: IPPrefix(single: interface.address), table: routing.routeTable, device: veth.hostIndex)
      // Replaced, since the agent says whose the address is now; what stands there is of a pod that is gone.
      var requests: [NetlinkRequest] = [.setUp(veth.hostIndex), .replace(route)]
      let rules = interface.rules(routing)
      if case .perPodRules = routing {
        // A rule that an earlier pod of this address left may lead to another ENI's table.
        requests.append(.delete(interface.fromRule(table: RouteTable(0))))
      }
      let first = requests.count
      requests += rules.map { .add($0) }
      let results = try host.performEach(requests)
      for (rule, result) in zip(rules, results[first...]) where (try? result.get()) == .done { made.rules.append(rule) }
      for result in results { _ = try result.get() }
    } catch {
      throw PodNetworkError(.kernel, "set up \(interface.hostName) for \(interface.address)", cause: error)
    }
  }

  /// The host end must not take a router or an address from what a pod sends, and is no router itself. Written before
  /// the link is up; a kernel without IPv6 has no such settings.
  private static func quiet(_ name: InterfaceName) throws {
    for (key, value) in [("accept_ra", "0"), ("accept_redirects", "1"), ("forwarding", "0")] {
      let outcome = try Sysctl.interface(name, .ipv6, key).writeBlindly(value)
      if outcome == .alreadyGone { return }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A pod's veth pair without an address: the part of the wiring that does not need the agent's answer.
///
/// The plugin creates it while the agent assigns an address (docs/decisions/0015-veth-before-the-answer.md).
package struct PodVeth: Sendable, Hashable {
  package let hostName: InterfaceName
  package let podName: InterfaceName
  package let hostIndex: UInt32
  package let podIndex: UInt32
  /// The host end's.
  package let mac: MACAddress

  package init(
    hostName: InterfaceName, podName: InterfaceName, hostIndex: UInt32, podIndex: UInt32, mac: MACAddress
  ) {
    self.hostName = hostName
    self.podName = podName
    self.hostIndex = hostIndex
    self.podIndex = podIndex
    self.mac = mac
  }

  /// How often a conflicting host interface is deleted before its reappearance is an error.
  private static let attempts = 3

  /// Creates the pair in one request, both ends in their namespaces and up, and writes the host end's sysctls. A veth
  /// with the same name left by an earlier pod is deleted first.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  ///   - node: the node's namespace, in which the calling thread must be: the sysctls belong to it.
  /// - Throws: `PodNetworkError`. Nothing of the pair is left then.
  package static func make(
    hostName: InterfaceName, podName: InterfaceName, mtu: UInt32, pod: NetlinkSocket, host: NetlinkSocket,
    node: NetworkNamespace
  ) throws(PodNetworkError) -> PodVeth {
    let veth = try create(hostName: hostName, podName: podName, mtu: mtu, pod: pod, host: host, node: node)
    do {
      try quiet(hostName)
      // IPv6 link-local addresses on host ends create routes that the kernel walks for every link change: with 700 pods
      // a setup took 1 ms instead of 0.05.
      try host.perform([.setNoLinkLocalAddress(on: veth.hostIndex), .setUp(veth.hostIndex)])
    } catch {
      veth.remove(on: host)
      throw PodNetworkError(.kernel, "set up \(hostName)", cause: error)
    }
    return veth
  }

  /// Deletes the pair by index: a later one with the same name is not touched.
  package func remove(on host: NetlinkSocket) {
    // A pair that cannot be deleted goes with the pod's namespace; the earlier failure is reported.
    _ = try? host.perform(.deleteLink(hostIndex))
  }

  private static func create(
    hostName: InterfaceName, podName: InterfaceName, mtu: UInt32, pod: NetlinkSocket, host: NetlinkSocket,
    node: NetworkNamespace
  ) throws(PodNetworkError) -> PodVeth {
    var generator = SystemRandomNumberGenerator()
    // The contract requires a MAC that no other link has. With 2^46 values, duplicates are not checked: that would mean
    // listing every link at each pod start.
    let mac = MACAddress.randomLocal(using: &generator)
    // Requested in the pod's namespace: the kernel creates the far end first and cannot set it up without the near end,
    // while the near end can be up, and have routes, from its creation.
    let podEnd = VethEnd(name: podName, mtu: mtu, isUp: true)
    let hostEnd = VethEnd(name: hostName, mac: mac, mtu: mtu)
    let create = { () throws(NetlinkError) -> PodVeth in
      let link = try Link.createVeth(podEnd, peer: hostEnd, in: node, on: pod)
      guard let hostIndex = link.peerIndex else {
        throw NetlinkError(.malformed, "create veth \(hostName)")
      }
      return PodVeth(hostName: hostName, podName: podName, hostIndex: hostIndex, podIndex: link.index, mac: mac)
    }
    do {
      for _ in 1..<attempts {
        do throws(NetlinkError) {
          return try create()
        } catch {
          guard error.code == .exists else { throw error }
        }
        // The kernel does not say which of the two names is taken.
        if try Link.find(named: podName, on: pod) != nil { break }
        guard let old = try Link.find(named: hostName, on: host) else { continue }
        guard old.kind == "veth" else {
          throw PodNetworkError(.notOurs, "\(hostName) exists on the host and is \(old.kind ?? "a device")")
        }
        try refuseOwn(old, pod: pod)
        // By index: a new one with the same name must not be hit. The agent may be deleting it too.
        try host.perform(.deleteLink(old.index))
      }
      if try Link.find(named: podName, on: pod) != nil {
        throw PodNetworkError(.interfaceExists, "interface \(podName) exists already in the pod's namespace")
      }
      return try create()
    } catch let error as PodNetworkError {
      throw error
    } catch {
      throw PodNetworkError(.kernel, "make veth pair \(hostName)", cause: error)
    }
  }

  /// The conflicting host interface may belong to this pod: a second network would delete the first one.
  private static func refuseOwn(_ old: Link, pod: NetlinkSocket) throws {
    guard let peer = old.peerIndex, let link = try Link.find(index: peer, on: pod) else { return }
    guard link.kind == "veth", link.peerIndex == old.index, link.peerNamespaceID != nil else { return }
    throw PodNetworkError(
      .hasNetwork,
      "\(old.name) on the host is the other end of the pod's \(link.name): a pod has one network of this plugin")
  }

  /// The host end must not accept routers or addresses from a pod, and is not a router itself. Written before the link
  /// is up; a kernel without IPv6 has no such settings.
  private static func quiet(_ name: InterfaceName) throws {
    if try Sysctl.interface(name, .ipv6, "accept_ra").writeBlindly("0") == .alreadyGone { return }
    // Usually these values are already set. A write of `forwarding` needs the kernel's global link lock, and while
    // another pod start holds it, the kernel restarts the write repeatedly: a busy loop in many concurrent pod starts.
    try Sysctl.interface(name, .ipv6, "accept_redirects").write("1")
    try Sysctl.interface(name, .ipv6, "forwarding").write("0")
  }
}

/// A veth pair of a pod whose ADD ended before the wiring, usually by a kill.
///
/// It has no host route by which the agent would find it, and the kernel removes it only with the pod's namespace. If
/// the runtime keeps the namespace and retries, the interface would conflict.
package enum UnfinishedVeth {
  /// Removes the pair of `podName` if it belongs to this pod and has no address of either family: a wired interface is kept.
  ///
  /// - Parameters:
  ///   - hostSuffix: the last part of the host end's name, `HostVethName.suffix`.
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  /// - Returns: whether there was one, which is then deleted.
  package static func remove(
    podName: InterfaceName, hostSuffix: String, pod: NetlinkSocket, host: NetlinkSocket
  ) throws(NetlinkError) -> Bool {
    guard let link = try Link.find(named: podName, on: pod), link.kind == "veth", let peer = link.peerIndex,
      let hostEnd = try Link.find(index: peer, on: host), hostEnd.peerIndex == link.index,
      hostEnd.name.hasSuffix(hostSuffix)
    else { return false }
    let addresses = try InterfaceAddress.list(link: link.index, on: pod)
    // The kernel gives each link a link-local address.
    guard !addresses.contains(where: \.address.isGlobalUnicast) else { return false }
    try host.perform([.deleteLink(hostEnd.index)])
    return true
  }
}

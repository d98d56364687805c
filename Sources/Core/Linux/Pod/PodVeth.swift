// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A pod's veth pair without an address: the part of the wiring that needs nothing of the agent's answer.
///
/// The plugin makes it while the agent looks for an address (docs/decisions/0015-veth-before-the-answer.md).
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

  /// How often a host interface that is in the way is deleted before its coming back is an error.
  private static let attempts = 3

  /// Makes the pair in one request, both ends where they belong and up, and writes the host end's sysctls. A veth of the
  /// same name that the host still has, of an earlier pod of that name, is deleted first.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  ///   - node: the node's namespace, in which the calling thread must be: the sysctls are its.
  /// - Throws: `PodNetworkError`. Nothing of the pair is left then.
  package static func make(
    hostName: InterfaceName, podName: InterfaceName, mtu: UInt32, pod: NetlinkSocket, host: NetlinkSocket,
    node: NetworkNamespace
  ) throws(PodNetworkError) -> PodVeth {
    let veth = try create(hostName: hostName, podName: podName, mtu: mtu, pod: pod, host: host, node: node)
    do {
      try quiet(hostName)
      // An IPv6 link-local address on each host end makes a list of routes that the kernel walks for every link that
      // comes or goes: beside 700 pods a set-up took 1 ms in place of 0.05.
      try host.perform([.setNoLinkLocalAddress(on: veth.hostIndex), .setUp(veth.hostIndex)])
    } catch {
      veth.remove(on: host)
      throw PodNetworkError(.kernel, "set up \(hostName)", cause: error)
    }
    return veth
  }

  /// Deletes the pair, by index: one of the same name that came later is not touched.
  package func remove(on host: NetlinkSocket) {
    // What cannot be deleted goes with the pod's namespace; the failure before it is the one to tell.
    _ = try? host.perform(.deleteLink(hostIndex))
  }

  private static func create(
    hostName: InterfaceName, podName: InterfaceName, mtu: UInt32, pod: NetlinkSocket, host: NetlinkSocket,
    node: NetworkNamespace
  ) throws(PodNetworkError) -> PodVeth {
    var generator = SystemRandomNumberGenerator()
    // The contract asks for a MAC that no other link has. Among 2^46 no second one is looked for: it would mean to list
    // every link at each pod's start.
    let mac = MACAddress.randomLocal(using: &generator)
    // Asked for in the pod's namespace: the kernel makes the far end first and could not set it up without the near one,
    // while the near one can be up, and take routes, from its creation.
    let podEnd = VethEnd(name: podName, mtu: mtu, isUp: true)
    let hostEnd = VethEnd(name: hostName, mac: mac, mtu: mtu)
    let create = { () throws(NetlinkError) -> PodVeth in
      let link = try Link.createVeth(podEnd, peer: hostEnd, in: node, on: pod)
      guard let hostIndex = link.peerIndex else {
        throw NetlinkError(code: .malformed, request: "create veth \(hostName)")
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
        // Which of the two names is taken the kernel does not say.
        if try Link.find(named: podName, on: pod) != nil { break }
        guard let old = try Link.find(named: hostName, on: host) else { continue }
        guard old.kind == "veth" else {
          throw PodNetworkError(.notOurs, "\(hostName) exists on the host and is \(old.kind ?? "a device")")
        }
        try refuseOwn(old, pod: pod)
        // By index: a new one of the same name must not be hit. The agent may be deleting it as well.
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

  /// The host interface in the way may be this very pod's: a second network of its, which would take the first one away.
  private static func refuseOwn(_ old: Link, pod: NetlinkSocket) throws {
    guard let peer = old.peerIndex, let link = try Link.find(index: peer, on: pod) else { return }
    guard link.kind == "veth", link.peerIndex == old.index, link.peerNamespaceID != nil else { return }
    throw PodNetworkError(
      .hasNetwork,
      "\(old.name) on the host is the other end of the pod's \(link.name): a pod has one network of this plugin")
  }

  /// The host end must not take a router or an address from what a pod sends, and is no router itself. Written before
  /// the link is up; a kernel without IPv6 has no such settings.
  private static func quiet(_ name: InterfaceName) throws {
    if try Sysctl.interface(name, .ipv6, "accept_ra").writeBlindly("0") == .alreadyGone { return }
    // As a rule these stand already. For a write of `forwarding` the kernel tries the lock of all links' changes, and
    // where another pod's start has it, lets the write begin again, and again: a busy loop in each of many pods' starts.
    try Sysctl.interface(name, .ipv6, "accept_redirects").write("1")
    try Sysctl.interface(name, .ipv6, "forwarding").write("0")
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Glibc
package import VPCModel
internal import VPCSystem

/// The desired second interface of a pod, by which it reaches the family that the cluster does not have.
///
/// A veth pair: `v4if0` or `v6if0` in the pod, a name of its own on the host, and an address that only this node knows.
/// Source: contract of amazon-vpc-cni-k8s v1.23, egress-cni.
package struct EgressNetwork: Sendable, Hashable {
  package let address: IPAddress
  /// The subnet that all pods of the node share: /22 or /118.
  package let prefixLength: Int
  /// In IPv4 the address of every such host interface; in IPv6 nobody has it.
  package let gateway: IPAddress
  /// The destinations that the pod reaches by this interface.
  package let destinations: [IPPrefix]
  package let mtu: UInt32

  package init(
    address: IPAddress, prefixLength: Int, gateway: IPAddress, destinations: [IPPrefix], mtu: UInt32
  ) {
    self.address = address
    self.prefixLength = prefixLength
    self.gateway = gateway
    self.destinations = destinations
    self.mtu = mtu
  }

  /// The name of the pod's end.
  package static func podName(_ family: AddressFamily) -> InterfaceName? {
    InterfaceName(family == .ipv4 ? "v4if0" : "v6if0")
  }
}

/// A pod's egress interface as it was made.
package struct EgressLink: Sendable, Hashable {
  package let hostName: InterfaceName
  package let hostIndex: UInt32
  package let hostMAC: MACAddress
  package let podName: InterfaceName
  package let podIndex: UInt32
  package let podMAC: MACAddress

  /// How often a name that is taken is replaced by another one.
  private static let attempts = 3

  /// Creates the pair in one request, the pod's end up.
  ///
  /// - Parameters:
  ///   - pod: a socket opened in the pod's namespace.
  ///   - node: the node's namespace.
  static func make(
    _ podName: InterfaceName, mtu: UInt32, pod: NetlinkSocket, node: NetworkNamespace
  ) throws -> EgressLink {
    var generator = SystemRandomNumberGenerator()
    var attempt = 1
    while true {
      let digits = HexDigits.encode((0..<4).map { _ in UInt8.random(in: 0...255, using: &generator) })
      guard let hostName = InterfaceName("veth\(digits)") else { throw NetlinkError(.invalid, "name a veth") }
      // Both set at creation, so that udev's MACAddressPolicy changes none.
      let (hostMAC, podMAC) = (
        MACAddress.randomLocal(using: &generator), MACAddress.randomLocal(using: &generator)
      )
      do throws(NetlinkError) {
        let link = try Link.createVeth(
          VethEnd(name: podName, mac: podMAC, mtu: mtu, isUp: true),
          peer: VethEnd(name: hostName, mac: hostMAC, mtu: mtu), in: node, on: pod)
        guard let hostIndex = link.peerIndex else { throw NetlinkError(.malformed, "create veth \(hostName)") }
        return EgressLink(
          hostName: hostName, hostIndex: hostIndex, hostMAC: hostMAC, podName: podName, podIndex: link.index,
          podMAC: podMAC)
      } catch {
        guard error.code == .exists, attempt < attempts else { throw error }
        // The kernel does not say which of the two names is taken. The pod's holds no reservation, so its pair is left
        // over from an earlier attachment.
        if let old = try Link.find(named: podName, on: pod) {
          guard old.kind == "veth", old.peerNamespaceID != nil else { throw error }
          try pod.perform(.deleteLink(old.index))
        }
        attempt += 1
      }
    }
  }
}

extension EgressNetwork {
  /// Removes what outlives an attachment on a node: the pod's host route, and the pair of an ADD that did not end.
  ///
  /// The pair of an ADD that succeeded goes with the pod's namespace: the kernel needs 8 to 20 ms for it, which no DEL
  /// waits for (docs/decisions/0007).
  /// - Parameters:
  ///   - address: the pod's, which nobody else can hold yet.
  ///   - host: a socket of the node's namespace.
  package static func removeRoute(to address: IPAddress, on host: NetlinkSocket) throws(NetlinkError) {
    for route in try Route.find(IPPrefix(single: address), table: .main, on: host) {
      guard let device = route.device, let link = try Link.find(index: device, on: host), link.kind == "veth" else {
        continue
      }
      try host.perform(.delete(route))
    }
  }

  /// - Parameter pod: a socket opened in the pod's namespace.
  /// - Returns: whether there was such a pair, which is then deleted.
  package static func removePair(_ family: AddressFamily, pod: NetlinkSocket) throws(NetlinkError) -> Bool {
    guard let name = podName(family), let link = try Link.find(named: name, on: pod), link.kind == "veth" else {
      return false
    }
    try pod.perform(.deleteLink(link.index))
    return true
  }
}

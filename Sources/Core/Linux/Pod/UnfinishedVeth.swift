// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A veth pair of a pod whose ADD ended before it was wired: killed, as a rule.
///
/// No host route leads to it, by which the agent would find it, and the kernel removes it with the pod's namespace alone.
/// A runtime that keeps the namespace and tries again would find the interface in the way.
package enum UnfinishedVeth {
  /// Removes the pair behind `podName`, if it is one of this pod and has no IPv4 address: whatever is wired is left.
  ///
  /// - Parameters:
  ///   - hostSuffix: the last part of the host end's name, `HostVethName.suffix`.
  ///   - pod: a socket opened in the pod's namespace.
  ///   - host: a socket of the node's namespace.
  /// - Returns: whether there was one. It is gone then.
  package static func remove(
    podName: InterfaceName, hostSuffix: String, pod: NetlinkSocket, host: NetlinkSocket
  ) throws(NetlinkError) -> Bool {
    guard let link = try Link.find(named: podName, on: pod), link.kind == "veth", let peer = link.peerIndex,
      let hostEnd = try Link.find(index: peer, on: host), hostEnd.peerIndex == link.index,
      hostEnd.name.hasSuffix(hostSuffix)
    else { return false }
    guard try InterfaceAddress.list(link: link.index, family: .ipv4, on: pod).isEmpty else { return false }
    try host.perform([.deleteLink(hostEnd.index)])
    return true
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// A veth pair of a pod whose ADD ended before the wiring, usually by a kill.
///
/// It has no host route by which the agent would find it, and the kernel removes it only with the pod's namespace. If
/// the runtime keeps the namespace and retries, the interface would conflict.
package enum UnfinishedVeth {
  /// Removes the pair of `podName` if it belongs to this pod and has no IPv4 address: a wired interface is kept.
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
    guard try InterfaceAddress.list(link: link.index, family: .ipv4, on: pod).isEmpty else { return false }
    try host.perform([.deleteLink(hostEnd.index)])
    return true
  }
}

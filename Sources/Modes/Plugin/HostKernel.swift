// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel

/// The kernel of the node that the process runs on.
///
/// Works in the calling thread's namespace and enters the pod's on the same thread: the plugin has no other.
final class HostKernel: KernelPort {
  private var socket: NetlinkSocket?

  /// One socket for the whole call.
  func host() throws(NetlinkError) -> NetlinkSocket {
    if let socket { return socket }
    let opened = try NetlinkSocket()
    socket = opened
    return opened
  }

  func open(namespace path: String, allowsOwn: Bool) throws(CNIError) -> any PodPort {
    try openPod(namespace: path, allowsOwn: allowsOwn)
  }

  /// As `open`.
  func openPod(namespace path: String, allowsOwn: Bool) throws(CNIError) -> HostPod {
    let namespace: NetworkNamespace
    do {
      namespace = try NetworkNamespace(path: path)
    } catch {
      throw CNIError(.invalidEnvironment, "CNI_NETNS \(path.quoted) is not a network namespace", cause: error)
    }
    do {
      let node = try NetworkNamespace.current()
      if !allowsOwn, node.identity == namespace.identity {
        throw CNIError(
          .invalidEnvironment, "plugin's netns and netns from CNI_NETNS should not be the same")
      }
      return HostPod(
        node: node, namespace: namespace, pod: try namespace.openSocketOnThisThread(), host: try host())
    } catch let error as CNIError {
      throw error
    } catch {
      throw CNIError(.failed, "cannot work in CNI_NETNS \(path.quoted)", cause: error)
    }
  }

  func remove(_ remains: HostRemains) throws {
    _ = try remains.remove(on: host())
  }

  func removeBranch(vlan: Int, remains: HostRemains) throws {
    try remains.removeBranch(vlan: vlan, on: host())
  }
}

/// A pod's namespace, open.
struct HostPod: PodPort {
  let node: NetworkNamespace
  let namespace: NetworkNamespace
  let pod: NetlinkSocket
  let host: NetlinkSocket

  func has(_ interface: InterfaceName) throws -> Bool { try Link.find(named: interface, on: pod) != nil }

  func prepare(hostName: InterfaceName, podName: InterfaceName, mtu: UInt32) throws(PodNetworkError) -> PodVeth {
    try PodVeth.make(hostName: hostName, podName: podName, mtu: mtu, pod: pod, host: host, node: node)
  }

  func discard(_ veth: PodVeth) { veth.remove(on: host) }

  func add(_ network: PodNetwork, prepared: PodVeth?) throws {
    try network.add(pod: pod, host: host, node: node, namespace: namespace, prepared: prepared)
  }

  func removeUnfinished(_ interface: InterfaceName, hostSuffix: String) throws -> Bool {
    try UnfinishedVeth.remove(podName: interface, hostSuffix: hostSuffix, pod: pod, host: host)
  }

  func check(_ interfaces: [PodInterface]) throws {
    for interface in interfaces { try interface.check(pod: pod, host: host) }
  }
}

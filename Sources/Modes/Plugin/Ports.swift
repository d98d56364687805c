// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel
import VPCRPC

/// The commands' port to the agent. Every call ends within its timeout.
protocol AgentPort {
  /// - Parameter meanwhile: runs at most once, while the agent works; not at all if the agent cannot be reached.
  func add(
    _ request: AddNetworkRequest, timeout: Duration, meanwhile: () -> Void
  ) throws(RPCError) -> AddNetworkReply
  func delete(_ request: DelNetworkRequest, timeout: Duration) throws(RPCError) -> DelNetworkReply
  /// - Returns: nil if the agent is serving, else the reason.
  func unreadiness(timeout: Duration) -> String?
}

/// The commands' port to the network policy agent.
protocol PolicyPort {
  func enforce(_ request: EnforceNpRequest, timeout: Duration) throws(RPCError) -> EnforceNpReply
  func delete(_ request: DeleteNpRequest, timeout: Duration) throws(RPCError) -> DeleteNpReply
}

/// The commands' port to the kernel.
protocol KernelPort {
  /// Opens a pod's network namespace.
  ///
  /// - Throws: code 4 for a path that is not a network namespace, or is the plugin's own unless `allowsOwn`.
  func open(namespace path: String, allowsOwn: Bool) throws(CNIError) -> any PodPort

  /// Removes a pod's host state; missing objects are no error.
  func remove(_ remains: HostRemains) throws

  /// Removes the host state of a pod with a branch ENI.
  func removeBranch(vlan: Int, remains: HostRemains) throws
}

/// The commands' port to a pod's namespace.
protocol PodPort {
  func has(_ interface: InterfaceName) throws -> Bool
  /// Creates the veth pair of the pod's first interface, or nothing.
  func prepare(hostName: InterfaceName, podName: InterfaceName, mtu: UInt32) throws(PodNetworkError) -> PodVeth
  /// Removes the pair of `prepare`.
  func discard(_ veth: PodVeth)
  /// Creates the wiring completely or not at all; uses the prepared pair.
  func add(_ network: PodNetwork, prepared: PodVeth?) throws
  /// Removes the pair of an ADD that was killed before it was wired. Does nothing if there is none.
  func removeUnfinished(_ interface: InterfaceName, hostSuffix: String) throws -> Bool
  /// - Throws: the first difference.
  func check(_ interfaces: [PodInterface]) throws
}

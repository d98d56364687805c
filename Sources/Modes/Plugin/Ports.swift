// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel
import VPCRPC

/// The agent as the commands see it. Every call ends within its timeout.
protocol AgentPort {
  /// - Parameter meanwhile: run at most once, while the agent works; not at all where it cannot be reached.
  func add(
    _ request: AddNetworkRequest, timeout: Duration, meanwhile: () -> Void
  ) throws(RPCError) -> AddNetworkReply
  func delete(_ request: DelNetworkRequest, timeout: Duration) throws(RPCError) -> DelNetworkReply
  /// - Returns: nil when the agent serves, else why not.
  func unreadiness(timeout: Duration) -> String?
}

/// The network policy agent as the commands see it.
protocol PolicyPort {
  func enforce(_ request: EnforceNpRequest, timeout: Duration) throws(RPCError) -> EnforceNpReply
  func delete(_ request: DeleteNpRequest, timeout: Duration) throws(RPCError) -> DeleteNpReply
}

/// The kernel as the commands see it.
protocol KernelPort {
  /// Opens a pod's network namespace.
  ///
  /// - Throws: code 4 for a path that is no network namespace, or is the plugin's own unless `allowsOwn`.
  func open(namespace path: String, allowsOwn: Bool) throws(CNIError) -> any PodPort

  /// Removes what a pod has on the host; what is gone already is fine.
  func remove(_ remains: HostRemains) throws

  /// Removes what a pod with a branch ENI has on the host.
  func removeBranch(vlan: Int, remains: HostRemains) throws
}

/// A pod's namespace as the commands see it.
protocol PodPort {
  func has(_ interface: InterfaceName) throws -> Bool
  /// Makes the veth pair of the pod's first interface, or nothing.
  func prepare(hostName: InterfaceName, podName: InterfaceName, mtu: UInt32) throws(PodNetworkError) -> PodVeth
  /// Removes what `prepare` made.
  func discard(_ veth: PodVeth)
  /// Makes the wiring, all of it or nothing; what was prepared is part of it.
  func add(_ network: PodNetwork, prepared: PodVeth?) throws
  /// Removes the pair of an ADD that was killed before it was wired. Nothing happens where there is none.
  func removeUnfinished(_ interface: InterfaceName, hostSuffix: String) throws -> Bool
  /// - Throws: for the first thing that is not as it should be.
  func check(_ interfaces: [PodInterface]) throws
}

/// How long the plugin waits for others. A pod's start is retried by the kubelet, whose own limit is two minutes.
enum Patience {
  /// ADD: the agent may have to attach an ENI first.
  static let add: Duration = .seconds(20)
  static let delete: Duration = .seconds(10)
  /// GC asks once for each stale attachment, all of them within this.
  static let collect: Duration = .seconds(30)
  static let status: Duration = .seconds(5)
  /// The connect alone has 2 seconds of it (`NPBackendClient`).
  static let policy: Duration = .seconds(10)
  /// Until a runtime has written the configuration and closed the pipe.
  static let input: Duration = .seconds(10)
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// A node and a pod for one test, and the pod's wiring between them.
struct PodFixture: Sendable {
  let node: NamespaceFixture
  let pod: NamespaceFixture

  /// A node with one address that forwards packets and looks up pods in the pods table, as the agent configures it.
  static func makeNode() throws -> NamespaceFixture {
    let node = try NamespaceFixture([
      "link add ens5 type bridge", "link set ens5 up", "addr add 10.0.0.10/24 dev ens5",
      "rule add priority 512 lookup 20512",
    ])
    try node.run { _ = try Sysctl(name: "net.ipv4.ip_forward").write("1") }
    return node
  }

  init(node: NamespaceFixture? = nil) throws {
    self.node = try node ?? PodFixture.makeNode()
    pod = try NamespaceFixture()
  }

  static func interface(
    _ address: String = "10.0.3.7", host: String = "eni0123456789a", pod: String = "eth0", index: Int = 0,
    table: RouteTable = .main
  ) throws -> PodInterface {
    PodInterface(
      index: index, hostName: try #require(InterfaceName(host)), podName: try #require(InterfaceName(pod)),
      address: try #require(IPAddress(address)), eniTable: table)
  }

  static func network(
    _ interfaces: [PodInterface], mtu: UInt32 = 9001, routing: HostRouting = .table(.pods)
  ) -> PodNetwork {
    PodNetwork(interfaces: interfaces, mtu: mtu, routing: routing)
  }

  /// - Parameter isPrepared: creates the first interface's veth pair beforehand, as the plugin does.
  func add(_ network: PodNetwork, isPrepared: Bool = false) throws(PodNetworkError) {
    do {
      try node.run { [pod, node] in
        let namespace = pod.namespace
        let pod = try pod.socket()
        let host = try NetlinkSocket()
        var prepared: PodVeth?
        if isPrepared, let first = network.interfaces.first {
          prepared = try PodVeth.make(
            hostName: first.hostName, podName: first.podName, mtu: network.mtu, pod: pod, host: host,
            node: node.namespace)
        }
        try network.add(pod: pod, host: host, node: node.namespace, namespace: namespace, prepared: prepared)
      }
    } catch let error as PodNetworkError {
      throw error
    } catch {
      throw PodNetworkError(.kernel, "fixture", cause: error)
    }
  }

  func check(_ interface: PodInterface) throws {
    try node.run { [pod] in try interface.check(pod: try pod.socket(), host: try NetlinkSocket()) }
  }

  @discardableResult
  func remove(
    _ address: String = "10.0.3.7", suffix: String = "0123456789a", table: RouteTable? = nil, veth: Bool = true
  ) throws -> HostRemains.Outcome {
    let remains = HostRemains(
      address: try #require(IPAddress(address)), vethSuffix: suffix, eniTable: table, deletesVeth: veth)
    return try node.run { try remains.remove(on: try NetlinkSocket()) }
  }

  /// Everything on the node that a pod's wiring could have changed.
  func nodeState() throws -> String { try PodFixture.nodeState(node) }

  static func nodeState(_ node: NamespaceFixture) throws -> String {
    let lines = [
      "-brief link show", "rule show", "-4 route show table all", "-6 rule show", "-6 route show table main",
    ]
    // Without any route in it, the table does not exist.
    let pods = (try? node.ip("-6 route show table 20512")) ?? ""
    return try (lines.map { try node.ip($0) } + [pods]).joined(separator: "\n")
  }

  func ping(_ address: String) throws {
    let result = try pod.command(["ping", "-c", "1", "-W", "5", address])
    #expect(result.status == 0, "ping \(address): \(result.output)")
  }
}

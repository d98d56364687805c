// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import TestSupport
import VPCLinux
import VPCModel

/// A node and a pod for one test of egress-cni, the pod with an `eth0`.
struct EgressFixture: Sendable {
  let node: NamespaceFixture
  let pod: NamespaceFixture

  init(_ node: NamespaceFixture? = nil) throws {
    self.node = try node ?? NamespaceFixture([])
    pod = try NamespaceFixture()
    try pod.addLink("eth0")
    try self.node.run {
      _ = try Sysctl(name: "net.ipv6.conf.all.disable_ipv6").write("0")
      _ = try Sysctl(name: "net.ipv6.conf.all.forwarding").write("1")
    }
  }

  static func network(_ address: String, mtu: UInt32 = 8000) -> EgressNetwork {
    let address = IPAddress(address)!
    let isIPv4 = address.family == .ipv4
    return EgressNetwork(
      address: address, prefixLength: isIPv4 ? 22 : 118, gateway: IPAddress(isIPv4 ? "169.254.172.1" : "fd00::ac:1")!,
      destinations: [IPPrefix(isIPv4 ? "0.0.0.0/0" : "::/0")!], mtu: mtu)
  }

  @discardableResult
  func add(_ network: EgressNetwork) throws -> EgressLink {
    try node.run { [pod, node] in
      try network.add(
        pod: try pod.socket(), host: try NetlinkSocket(), node: node.namespace, namespace: pod.namespace,
        primary: InterfaceName("eth0")!)
    }
  }

  /// Everything on the node that the wiring could have changed, without what the kernel adds to a link a moment later.
  func nodeState() throws -> [String] {
    let links = try node.ip("-brief link show").split(separator: "\n").map { String($0.prefix { $0 != " " }) }
    let routes = try ["-4", "-6"].flatMap { try node.ip("\($0) route show table all").split(separator: "\n") }
    return links + routes.filter { !$0.contains("fe80:") && !$0.contains("ff00:") }.map(String.init)
  }
}

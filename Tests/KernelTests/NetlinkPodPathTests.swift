// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// Measures what a pod costs in the kernel, and that it costs no more on a full node.
@Suite(.requiresRoot)
struct NetlinkPodPathTests {
  /// Wires one pod as the plugin does, with four system calls for requests.
  private func wire(_ number: Int, on node: NamespaceFixture, _ onNode: NetlinkSocket) throws -> Duration {
    let pod = try NamespaceFixture(loopback: false)
    let address = IPAddress(ipv4: 0x0a05_0000 + UInt32(number))
    let (gateway, mac) = (IPAddress(ipv4: 0xa9fe_0101), MACAddress(bits: 0x0200_0000_0000 + UInt64(number)))
    let near = VethEnd(name: try NetlinkLinkTests.name("eth0"), mtu: 9001, isUp: true)
    let far = VethEnd(name: try NetlinkLinkTests.name("eni\(number)"), mac: mac, mtu: 9001)
    let start = ContinuousClock.now
    let inPod = try pod.socket()
    let link = try Link.createVeth(near, peer: far, in: node.namespace, on: inPod)
    let host = try #require(link.peerIndex)
    try onNode.perform([.setUp(host), .replace(Route(to: IPPrefix(single: address), table: .pods, device: host))])
    try inPod.perform([
      .add(InterfaceAddress(address, on: link.index)),
      .add(Route(to: IPPrefix(single: gateway), device: link.index)),
      .add(Route(to: Route.everything(.ipv4), device: link.index, gateway: gateway)),
      .replace(Neighbour(gateway, mac: mac, on: link.index)),
    ])
    return ContinuousClock.now - start
  }

  @Test func aPodsPathIsShort() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let times = try (0..<30).map { try wire($0, on: node, socket) }.sorted()
    let median = times[times.count / 2]
    // A person reads the printed times. The bound only catches an error of an order of magnitude on a busy machine.
    print("pod path (socket, veth, address, routes, neighbour): median \(median), best \(times[0])")
    #expect(median < .milliseconds(100))
  }
}

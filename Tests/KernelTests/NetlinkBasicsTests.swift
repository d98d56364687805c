// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

/// Wires a whole pod as the plugin does, and checks the result with `ip`.
@Suite(.requiresRoot)
struct NetlinkBasicsTests {
  @Test func aPodIsWired() throws {
    let node = try NamespaceFixture()
    let pod = try NamespaceFixture()
    let onNode = try node.socket()
    let inPod = try pod.socket()
    let hostMAC = try #require(MACAddress("02:00:00:00:00:07"))
    let address = try #require(IPAddress("10.0.3.7"))
    let gateway = try #require(IPAddress("169.254.1.1"))
    let near = VethEnd(name: try #require(InterfaceName("eth0")), mtu: 9001, isUp: true)
    let far = VethEnd(name: try #require(InterfaceName("eni12345678901")), mac: hostMAC, mtu: 9001)

    let link = try Link.createVeth(near, peer: far, in: node.namespace, on: inPod)
    #expect(link.name == "eth0" && link.mtu == 9001 && link.kind == "veth" && link.isUp)
    let host = try #require(try Link.find(named: far.name, on: onNode))
    #expect(host.mac == hostMAC && host.mtu == 9001 && !host.isUp && host.index == link.peerIndex)

    try onNode.perform([
      .setUp(host.index), .replace(Route(to: IPPrefix(single: address), table: .pods, device: host.index)),
    ])
    try inPod.perform([
      .add(InterfaceAddress(address, on: link.index)),
      .add(Route(to: IPPrefix(single: gateway), device: link.index)),
      .add(Route(to: Route.everything(.ipv4), device: link.index, gateway: gateway)),
      .replace(Neighbour(gateway, mac: hostMAC, on: link.index)),
    ])
    #expect(try node.ip("route show table 20512") == "10.0.3.7 dev eni12345678901 scope link \n")
    #expect(try pod.ip("route show") == "default via 169.254.1.1 dev eth0 \n169.254.1.1 dev eth0 scope link \n")
    #expect(try pod.ip("neigh show") == "169.254.1.1 dev eth0 lladdr 02:00:00:00:00:07 PERMANENT \n")
    #expect(try onNode.perform(.deleteLink(host.index)) == .done)
    #expect(try onNode.perform(.deleteLink(host.index)) == .alreadyGone)
  }
}

// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NetlinkNeighbourTests {
  @Test(arguments: ["169.254.1.1", "fe80::1"])
  func aPermanentEntryComesAndGoes(text: String) throws {
    let (pod, node) = (try NamespaceFixture(), try NamespaceFixture())
    let socket = try pod.socket()
    let link = try Link.createVeth(
      VethEnd(name: try NetlinkLinkTests.name("eth0"), isUp: true),
      peer: VethEnd(name: try NetlinkLinkTests.name("e0")),
      in: node.namespace, on: socket
    ).index
    let entry = Neighbour(try #require(IPAddress(text)), mac: MACAddress(bits: 0x0200_0000_0007), on: link)
    let other = Neighbour(entry.address, mac: MACAddress(bits: 0x0200_0000_0008), on: link)
    #expect(try Neighbour.find(entry.address, link: link, on: socket) == nil)
    #expect(try socket.perform(.add(entry)) == .done)
    #expect(try socket.perform(.add(entry)) == .alreadySo)
    #expect(try Neighbour.find(entry.address, link: link, on: socket) == entry)
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.add(other)) }
    #expect(error.code == .exists)
    #expect(try socket.perform(.replace(other)) == .done)
    #expect(try pod.ip("neigh show") == "\(text) dev eth0 lladdr 02:00:00:00:00:08 PERMANENT \n")
    #expect(try socket.perform(.delete(other)) == .done)
    #expect(try socket.perform(.delete(other)) == .alreadyGone)
    #expect(try socket.perform(.delete(Neighbour(entry.address, mac: MACAddress(bits: 7), on: 4711))) == .alreadyGone)
    #expect(try Neighbour.find(entry.address, link: 4711, on: socket) == nil)
  }
}

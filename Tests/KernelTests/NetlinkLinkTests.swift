// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NetlinkLinkTests {
  static func name(_ text: String) throws -> InterfaceName { try #require(InterfaceName(text)) }

  @Test func aPairIsMadeInTwoNamespaces() throws {
    let (pod, node) = (try NamespaceFixture(), try NamespaceFixture())
    let (inPod, onNode) = (try pod.socket(), try node.socket())
    let near = VethEnd(
      name: try Self.name("eth0"), mac: MACAddress("0a:00:00:00:00:01"), mtu: 1400, isUp: true)
    let far = VethEnd(name: try Self.name("eni0"), mac: MACAddress("02:00:00:00:00:02"), mtu: 1300)
    let link = try Link.createVeth(near, peer: far, in: node.namespace, on: inPod)
    #expect(link.mac == near.mac && link.mtu == 1400 && link.isUp && !link.hasCarrier && !link.isLoopback)
    #expect(link.peerNamespaceID != nil)
    let host = try #require(try Link.find(named: far.name, on: onNode))
    #expect(host.mac == far.mac && host.mtu == 1300 && !host.isUp && host.kind == "veth")
    #expect(host.index == link.peerIndex && host.peerIndex == link.index)
    // addr_assign_type 3, NET_ADDR_SET: udev's MACAddressPolicy leaves such an address alone.
    #expect(try node.ip("-d link show eni0").contains("02:00:00:00:00:02"))
    #expect(try onNode.perform(.setUp(host.index)) == .done)
    #expect(try #require(try Link.find(index: link.index, on: inPod)).hasCarrier)
  }

  @Test(arguments: [true, false])
  func aTakenNameIsAnError(takenOnTheNode: Bool) throws {
    let (pod, node) = (try NamespaceFixture(), try NamespaceFixture())
    let taken = takenOnTheNode ? node : pod
    try taken.addLink(takenOnTheNode ? "eni0" : "eth0")
    let socket = try pod.socket()
    let error = try #require(throws: NetlinkError.self) {
      _ = try Link.createVeth(
        VethEnd(name: try Self.name("eth0")), peer: VethEnd(name: try Self.name("eni0")), in: node.namespace,
        on: socket)
    }
    #expect(error.code == .exists && error.errno == EEXIST && !error.isTransient)
    #expect(error.description.hasPrefix("create veth eth0 with peer eni0: file exists (errno 17)"))
    // Neither end of the pair remains.
    #expect(try Link.list(on: pod.socket()).count == (takenOnTheNode ? 1 : 3))
    #expect(try Link.list(on: node.socket()).count == (takenOnTheNode ? 3 : 1))
  }

  @Test func aLinkIsFoundByNameIndexAndMAC() throws {
    let node = try NamespaceFixture()
    try node.addLink("d0", mac: MACAddress("02:00:00:00:00:0a"))
    try node.addLink("v0", mac: MACAddress("02:00:00:00:00:0a"))
    let socket = try node.socket()
    let link = try #require(try Link.find(named: try Self.name("d0"), on: socket))
    #expect(try Link.find(index: link.index, on: socket) == link)
    let sameMAC = try Link.find(mac: try #require(link.mac), on: socket)
    #expect(sameMAC.map(\.name) == ["d0", "v0"] && sameMAC.map(\.kind) == ["veth", "veth"])
    #expect(try Link.find(named: try Self.name("none"), on: socket) == nil)
    #expect(try Link.find(index: 4711, on: socket) == nil)
    #expect(try Link.find(mac: MACAddress(bits: 5), on: socket).isEmpty)
    let all = try Link.list(on: socket)
    #expect(Set(all.map(\.name)) == ["lo", "d0", "far-d0", "v0", "far-v0"])
    #expect(all.map(\.index) == all.map(\.index).sorted() && all.filter(\.isLoopback).map(\.name) == ["lo"])
  }

  @Test func aLinkIsChanged() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let index = try node.addLink("d0").index
    let mac = try #require(MACAddress("02:00:00:00:00:09"))
    try socket.perform([
      .setDown(index), .setMTU(1234, of: index), .setMAC(mac, of: index), .rename(index, to: try Self.name("d1")),
      .setUp(index),
    ])
    let link = try #require(try Link.find(index: index, on: socket))
    #expect(link.name == "d1" && link.mtu == 1234 && link.mac == mac && link.isUp)
    #expect(try socket.perform(.setDown(index)) == .done)
    #expect(try Link.find(index: index, on: socket)?.isUp == false)
    let other = try NamespaceFixture()
    try socket.perform(.move(index, to: other.namespace))
    #expect(try Link.find(index: index, on: socket) == nil)
    #expect(try Link.find(mac: mac, on: other.socket()).count == 1)
  }

  @Test func deletingTwiceIsNoError() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let index = try node.addLink("d0").index
    try node.addLink("d1")
    #expect(try socket.perform(.deleteLink(index)) == .done)
    #expect(try socket.perform(.deleteLink(index)) == .alreadyGone)
    #expect(try socket.perform(.deleteLink(named: try Self.name("d1"))) == .done)
    #expect(try socket.perform(.deleteLink(named: try Self.name("d1"))) == .alreadyGone)
  }

  @Test func changingAMissingLinkIsAnError() throws {
    let socket = try NamespaceFixture().socket()
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.setUp(4711)) }
    #expect(error.code == .notFound && error.description == "set link 4711 up: no such device (errno 19)")
  }

  @Test func theKernelsWordsAreInTheError() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let index = try node.addLink("d0").index
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.setMTU(4_000_000_000, of: index)) }
    #expect(error.code == .invalid && error.detail?.isEmpty == false)
    #expect(
      error.description == "set mtu 4000000000 on link \(index): invalid argument (errno 22): "
        + (error.detail ?? ""))
  }
}

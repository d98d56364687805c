// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCLinux
import VPCModel

@Suite(.requiresRoot)
struct NetlinkAddressTests {
  /// A namespace with a link `d0` that is up, and the link's index.
  static func fixture() throws -> (NamespaceFixture, NetlinkSocket, UInt32) {
    let node = try NamespaceFixture()
    return (node, try node.socket(), try node.addLink("d0").index)
  }

  @Test(arguments: [("10.0.1.5", 24), ("10.0.1.5", 32), ("fd00::5", 64), ("fd00::5", 128)])
  func anAddressIsAddedOnce(text: String, length: Int) throws {
    let (node, socket, link) = try Self.fixture()
    let address = InterfaceAddress(
      try #require(IPAddress(text)), prefixLength: length, on: link, noDuplicateDetection: true)
    #expect(try socket.perform(.add(address)) == .done)
    #expect(try socket.perform(.add(address)) == .alreadySo)
    #expect(try socket.perform(.replace(address)) == .done)
    #expect(try node.ip("addr show dev d0").contains("\(text)/\(length) "))
    let listed = try InterfaceAddress.list(link: link, family: address.address.family, on: socket)
    #expect(listed.contains { $0.address == address.address && $0.prefixLength == length && !$0.isTentative })
    #expect(try socket.perform(.delete(address)) == .done)
    #expect(try socket.perform(.delete(address)) == .alreadyGone)
    #expect(try socket.perform(.delete(InterfaceAddress(address.address, on: 4711))) == .alreadyGone)
  }

  @Test func theBroadcastAddressFollowsFromThePrefix() throws {
    let (node, socket, link) = try Self.fixture()
    try socket.perform(.add(InterfaceAddress(try #require(IPAddress("10.0.1.5")), prefixLength: 20, on: link)))
    #expect(try node.ip("-4 addr show dev d0").contains("inet 10.0.1.5/20 brd 10.0.15.255 scope global"))
  }

  @Test func noPrefixRouteKeepsTableMainEmpty() throws {
    let (node, socket, link) = try Self.fixture()
    let address = try #require(IPAddress("10.0.1.5"))
    try socket.perform(.add(InterfaceAddress(address, prefixLength: 24, on: link, noPrefixRoute: true)))
    #expect(try node.ip("route show") == "")
    #expect(try InterfaceAddress.list(link: link, family: .ipv4, on: socket).map(\.noPrefixRoute) == [true])
  }

  @Test func listsKnowTheLinkAndTheFamily() throws {
    let (node, socket, link) = try Self.fixture()
    try node.ip("addr add 10.0.1.5/24 dev d0")
    try node.ip("addr add 10.0.1.6/24 dev d0")
    try node.ip("addr add fd00::5/64 dev d0 nodad")
    let four = try InterfaceAddress.list(link: link, family: .ipv4, on: socket)
    #expect(four.map(\.description) == ["10.0.1.5/24 dev \(link)", "10.0.1.6/24 dev \(link)"])
    let both = try InterfaceAddress.list(link: link, on: socket)
    #expect(both.filter { $0.address.isGlobalUnicast }.map { "\($0.address)" } == ["10.0.1.5", "10.0.1.6", "fd00::5"])
    #expect(try InterfaceAddress.list(on: socket).contains { $0.link == 1 })
    #expect(try InterfaceAddress.list(link: 4711, on: socket).isEmpty)
  }

  @Test func anAddressOnAMissingLinkIsAnError() throws {
    let (_, socket, _) = try Self.fixture()
    let address = InterfaceAddress(try #require(IPAddress("10.0.1.5")), on: 4711)
    let error = try #require(throws: NetlinkError.self) { try socket.perform(.add(address)) }
    #expect(error.code == .notFound && error.description.hasPrefix("add address 10.0.1.5/32 dev 4711: no such device"))
  }
}

// SPDX-License-Identifier: Apache-2.0

import CNetlink
import Testing
import VPCModel

@testable import VPCLinux

/// Messages as kernel 6.18 sent them, without their netlink header, and what they decode to.
struct NetlinkReplyTests {
  /// A veth `eth0` with its peer in another namespace, without the attributes that no reader needs.
  static let link = """
    0000010002000000431001000000000009000300657468300000000008000d00e803000008000400292300000a0001000a00000000010000
    100012000900010076657468000000000800250000000000 0800050002000000
    """
  /// `ip addr add 10.0.3.7/24 dev eth0 noprefixroute`
  static let address = """
    0218800002000000080001000a000307080002000a000307080004000a0003ff09000300657468300000000008000800 80020000
    14000600ffffffffffffffff1b7106001b710600
    """
  /// `ip route add default via 169.254.1.1 dev eth0 table 20512 src 10.0.3.7 metric 7`
  static let route = """
    02000000fc0300010000000008000f00205000000800060007000000080007000a00030708000500a9fe01010800040002000000
    """
  /// `ip rule add priority 1536 from 10.0.3.0/24 iif eth0 fwmark 2/0x7f lookup 20512`
  static let rule = """
    02001800fc0000010000000008000f002050000008000e00ffffffff050015000000000009000300657468300000000008000600 00060000
    08000a0002000000080010007f000000080002000a000300
    """
  /// `ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:07 dev eth0 nud permanent`
  static let neighbour = """
    02000000020000008000000108000100a9fe01010a000200020000000007000008000400000000001400030000000000000000000000000000
    000000
    """

  private func message(_ type: Int, _ text: String) -> [UInt8] {
    let digits = text.utf8.compactMap(HexDigits.value)
    let payload = stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    let header = nlmsghdr(
      nlmsg_len: UInt32(payload.count + 16), nlmsg_type: UInt16(type), nlmsg_flags: 2, nlmsg_seq: 7, nlmsg_pid: 0)
    return withUnsafeBytes(of: header) { Array($0) } + payload
  }

  /// Decodes all messages in `bytes` with all readers; nil if something that is not a message follows.
  private func decode(_ bytes: [UInt8]) throws -> [AnyHashable]? {
    var found: [AnyHashable] = []
    let isWhole = try bytes.withUnsafeBytes { (bytes) throws(NetlinkError) in
      try NetlinkReply.forEach(in: bytes) { (reply) throws(NetlinkError) in
        Link(reply: reply).map { found.append($0) }
        InterfaceAddress(reply: reply).map { found.append($0) }
        Route(reply: reply).map { found.append($0) }
        PolicyRule(reply: reply).map { found.append($0) }
        Neighbour(reply: reply).map { found.append($0) }
      }
    }
    return isWhole ? found : nil
  }

  private var all: [UInt8] {
    message(RTM_NEWLINK, Self.link) + message(RTM_NEWADDR, Self.address) + message(RTM_NEWROUTE, Self.route)
      + message(RTM_NEWRULE, Self.rule) + message(RTM_NEWNEIGH, Self.neighbour)
  }

  @Test func capturedMessagesAreRead() throws {
    let found = try #require(try decode(all))
    try #require(found.count == 5)
    let link = try #require(found[0] as? Link)
    #expect(link.index == 2 && link.name == "eth0" && link.mtu == 9001 && link.kind == "veth" && link.peerIndex == 2)
    #expect(link.mac == MACAddress("0a:00:00:00:00:01") && link.isUp && link.hasCarrier && link.peerNamespaceID == 0)
    let address = try #require(found[1] as? InterfaceAddress)
    #expect(address.description == "10.0.3.7/24 dev 2" && address.noPrefixRoute && !address.isTentative)
    let route = try #require(found[2] as? Route)
    #expect(route.description == "0.0.0.0/0 via 169.254.1.1 dev 2 table 20512 metric 7")
    #expect(route.source == IPAddress("10.0.3.7") && route.scope == .global && route.origin == 3)
    let rule = try #require(found[3] as? PolicyRule)
    #expect(rule.description == "1536: from 10.0.3.0/24 fwmark 0x2/0x7f iif eth0 lookup 20512" && !rule.isForeign)
    let neighbour = try #require(found[4] as? Neighbour)
    #expect(neighbour.description == "169.254.1.1 lladdr 02:00:00:00:00:07 dev 2" && neighbour.isPermanent)
  }

  @Test func aCutMessageIsNoMessage() throws {
    let bytes = all
    for count in 1..<16 { #expect(try decode(Array(bytes.prefix(count))) == nil) }
    for count in 0..<bytes.count {
      // Readers invent nothing: the messages read from a part are the first ones of the whole.
      let found = try decode(Array(bytes.prefix(count)))
      #expect((found?.count ?? 0) < 5)
    }
  }

  @Test func damageNeverCrashes() throws {
    var generator = SplitMix64(seed: 20512)
    let whole = all
    for _ in 0..<20_000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...8, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      _ = try decode(Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator))))
    }
  }

  /// The kernel's errors are small negative numbers, but the reader must accept any number.
  @Test(arguments: [(Int32(-2), Int32(2)), (0, 0), (.min, .min), (.max, -.max)])
  func anyErrorNumberIsRead(code: Int32, number: Int32) {
    let payload = withUnsafeBytes(of: code) { Array($0) } + [UInt8](repeating: 0, count: 16)
    let header = nlmsghdr(nlmsg_len: 36, nlmsg_type: UInt16(NLMSG_ERROR), nlmsg_flags: 0, nlmsg_seq: 7, nlmsg_pid: 0)
    let datagram = withUnsafeBytes(of: header) { Array($0) } + payload
    datagram.withUnsafeBytes { bytes in
      #expect(NetlinkMessages(bytes).map { $0.error?.number } == [number])
    }
  }
}

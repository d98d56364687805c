// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// An address on a link (RTM_NEWADDR).
package struct InterfaceAddress: Sendable, Hashable, CustomStringConvertible {
  /// IFA_LOCAL: the node's own address.
  package var address: IPAddress
  /// 0…32 or 0…128. For less than the full length, the kernel adds a route to the subnet in table main, unless
  /// `noPrefixRoute`.
  package var prefixLength: Int
  /// The link's index.
  package var link: UInt32
  /// IFA_F_NOPREFIXROUTE: the address adds no route to the subnet.
  package var noPrefixRoute: Bool
  /// IFA_F_NODAD: an IPv6 address is usable at once. No effect for IPv4.
  package var noDuplicateDetection: Bool
  /// ifa_scope of an IPv4 address; the kernel decides the scope of an IPv6 address. Not read.
  package var scope: Route.Scope
  /// IFA_F_TENTATIVE as read: duplicate detection has not ended. Ignored in requests.
  package private(set) var isTentative = false

  /// - Parameter prefixLength: nil for the full length, /32 or /128.
  package init(
    _ address: IPAddress, prefixLength: Int? = nil, on link: UInt32, noPrefixRoute: Bool = false,
    noDuplicateDetection: Bool = false, scope: Route.Scope = .global
  ) {
    self.address = address
    self.prefixLength = prefixLength ?? address.family.bitWidth
    self.link = link
    self.noPrefixRoute = noPrefixRoute
    self.noDuplicateDetection = noDuplicateDetection
    self.scope = scope
  }

  package var description: String { "\(address)/\(prefixLength) dev \(link)" }

  /// Lists the addresses of a link, in the kernel's order (the primary of a subnet before its secondaries).
  ///
  /// - Parameter family: nil for both, IPv4 first.
  package static func list(
    link: UInt32, family: AddressFamily? = nil, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [InterfaceAddress] {
    try list(families: family.map { [$0] } ?? AddressFamily.allCases, link: link, on: socket)
  }

  /// Lists the addresses of all links.
  package static func list(
    family: AddressFamily? = nil, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [InterfaceAddress] {
    try list(families: family.map { [$0] } ?? AddressFamily.allCases, link: 0, on: socket)
  }

  private static func list(
    families: [AddressFamily], link: UInt32, on socket: NetlinkSocket
  ) throws(NetlinkError) -> [InterfaceAddress] {
    var all: [InterfaceAddress] = []
    for family in families {
      var header = ifaddrmsg()
      header.ifa_family = family.number
      header.ifa_index = link
      let message = NetlinkMessage(RTM_GETADDR, header: header)
      let request = NetlinkRequest(message: message, text: { "list addresses\(link == 0 ? "" : " of link \(link)")" })
      all += try socket.dump(request, gone: [ENODEV]) { (reply) throws(NetlinkError) in
        // Without strict checking the kernel lists every link.
        InterfaceAddress(reply: reply).flatMap { link == 0 || $0.link == link ? $0 : nil }
      }
    }
    return all
  }
}

extension NetlinkRequest {
  /// Adds an address; `alreadySo` if the link has it with this prefix length. The broadcast address follows from the
  /// prefix.
  package static func add(_ address: InterfaceAddress) -> NetlinkRequest {
    var request = NetlinkRequest(
      message: message(RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, address), text: { "add address \(address)" })
    request.resolve = { (socket) throws(NetlinkError) in
      try InterfaceAddress.list(link: address.link, family: address.address.family, on: socket)
        .contains { $0.address == address.address && $0.prefixLength == address.prefixLength } ? .alreadySo : nil
    }
    return request
  }

  /// Adds an address, or changes the flags of the existing one.
  package static func replace(_ address: InterfaceAddress) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_REPLACE, address),
      text: { "replace address \(address)" })
  }

  /// Deletes an address; `alreadyGone` if the link or the address does not exist.
  package static func delete(_ address: InterfaceAddress) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_DELADDR, flags: 0, address), text: { "delete address \(address)" },
      gone: [EADDRNOTAVAIL, ENODEV])
  }

  private static func message(_ type: Int, flags: Int32, _ address: InterfaceAddress) -> NetlinkMessage {
    var header = ifaddrmsg()
    header.ifa_family = address.address.family.number
    header.ifa_prefixlen = UInt8(clamping: address.prefixLength)
    header.ifa_index = address.link
    header.ifa_scope = address.scope.rawValue
    let message = NetlinkMessage(type, flags: flags, header: header)
    message.put(IFA_LOCAL, address.address)
    message.put(IFA_ADDRESS, address.address)
    guard type == RTM_NEWADDR else { return message }
    if address.address.family == .ipv4, address.prefixLength < 31,
      let subnet = IPPrefix(containing: address.address, length: address.prefixLength),
      let broadcast = subnet.address(at: subnet.count - 1)
    {
      message.put(IFA_BROADCAST, broadcast)
    }
    let flags =
      (address.noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0) | (address.noDuplicateDetection ? IFA_F_NODAD : 0)
    if flags != 0 { message.put(IFA_FLAGS, UInt32(flags)) }
    return message
  }
}

extension InterfaceAddress {
  /// Reads RTM_NEWADDR and RTM_DELADDR; nil for any other message.
  init?(reply: NetlinkReply) {
    guard reply.type == RTM_NEWADDR || reply.type == RTM_DELADDR, let header = reply.header(ifaddrmsg.self) else {
      return nil
    }
    // IFA_LOCAL is the address; IFA_ADDRESS is the peer's on a point-to-point link, and the only one for IPv6.
    var (local, address): (IPAddress?, IPAddress?) = (nil, nil)
    var flags = UInt32(header.ifa_flags)
    reply.forEachAttribute(after: ifaddrmsg.self) { type, value in
      switch type {
      case IFA_LOCAL: local = value.address
      case IFA_ADDRESS: address = value.address
      case IFA_FLAGS: flags = value.uint32 ?? flags
      default: break
      }
    }
    guard let own = local ?? address else { return nil }
    self.init(
      own, prefixLength: Int(header.ifa_prefixlen), on: header.ifa_index,
      noPrefixRoute: flags & UInt32(IFA_F_NOPREFIXROUTE) != 0, noDuplicateDetection: flags & UInt32(IFA_F_NODAD) != 0)
    isTentative = flags & UInt32(IFA_F_TENTATIVE) != 0
  }
}

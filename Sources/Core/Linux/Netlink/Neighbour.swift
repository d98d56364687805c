// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// An entry of a link's neighbour table (RTM_NEWNEIGH).
package struct Neighbour: Sendable, Hashable, CustomStringConvertible {
  /// NDA_DST.
  package var address: IPAddress
  /// Nil, as read, if the kernel has not resolved it yet.
  package var mac: MACAddress?
  /// The link's index.
  package var link: UInt32
  /// NUD_PERMANENT: the kernel neither resolves nor expires it.
  package private(set) var isPermanent = true

  /// A permanent entry.
  package init(_ address: IPAddress, mac: MACAddress, on link: UInt32) {
    self.address = address
    self.mac = mac
    self.link = link
  }

  package var description: String { "\(address)\(mac.map { " lladdr \($0)" } ?? "") dev \(link)" }

  /// Reads one entry; nil if the entry or the link does not exist. Source: RTM_GETNEIGH, kernel 5.0.
  package static func find(
    _ address: IPAddress, link: UInt32, on socket: NetlinkSocket
  ) throws(NetlinkError) -> Neighbour? {
    let message = NetlinkMessage(RTM_GETNEIGH, header: header(address, link: link))
    message.put(Int(NDA_DST), address)
    let request = NetlinkRequest(message: message, text: { "get neighbour \(address) dev \(link)" })
    return try socket.get(request, absent: [ENOENT, ENODEV]) { Neighbour(reply: $0) }
  }

  fileprivate static func header(_ address: IPAddress, link: UInt32, state: Int32 = 0) -> ndmsg {
    var header = ndmsg()
    header.ndm_family = address.family.number
    header.ndm_ifindex = Int32(bitPattern: link)
    header.ndm_state = UInt16(state)
    return header
  }
}

extension NetlinkRequest {
  /// Adds a permanent entry; `alreadySo` if the same entry exists, the error `exists` if a different one does.
  package static func add(_ neighbour: Neighbour) -> NetlinkRequest {
    var request = NetlinkRequest(
      message: message(RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_EXCL, neighbour),
      text: { "add neighbour \(neighbour)" })
    request.resolve = { (socket) throws(NetlinkError) in
      try Neighbour.find(neighbour.address, link: neighbour.link, on: socket) == neighbour ? .alreadySo : nil
    }
    return request
  }

  /// Adds or replaces a permanent entry.
  package static func replace(_ neighbour: Neighbour) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, neighbour),
      text: { "replace neighbour \(neighbour)" })
  }

  /// Deletes an entry; `alreadyGone` if the link or the entry does not exist.
  package static func delete(_ neighbour: Neighbour) -> NetlinkRequest {
    NetlinkRequest(
      message: message(RTM_DELNEIGH, flags: 0, neighbour), text: { "delete neighbour \(neighbour)" },
      gone: [ENOENT, ENODEV, ENXIO])
  }

  private static func message(_ type: Int, flags: Int32, _ neighbour: Neighbour) -> NetlinkMessage {
    let header = Neighbour.header(neighbour.address, link: neighbour.link, state: NUD_PERMANENT)
    let message = NetlinkMessage(type, flags: flags, header: header)
    message.put(Int(NDA_DST), neighbour.address)
    if type == RTM_NEWNEIGH, let mac = neighbour.mac { message.put(Int(NDA_LLADDR), mac) }
    return message
  }
}

extension Neighbour {
  /// Reads RTM_NEWNEIGH and RTM_DELNEIGH; nil for any other message.
  init?(reply: NetlinkReply) {
    guard reply.type == RTM_NEWNEIGH || reply.type == RTM_DELNEIGH, let header = reply.header(ndmsg.self) else {
      return nil
    }
    var address: IPAddress?
    var mac: MACAddress?
    reply.forEachAttribute(after: ndmsg.self) { type, value in
      switch type {
      case Int(NDA_DST): address = value.address
      case Int(NDA_LLADDR): mac = value.mac
      default: break
      }
    }
    guard let address else { return nil }
    self.address = address
    self.mac = mac
    link = UInt32(bitPattern: header.ndm_ifindex)
    isPermanent = header.ndm_state & UInt16(NUD_PERMANENT) != 0
  }
}

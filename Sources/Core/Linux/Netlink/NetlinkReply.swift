// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCModel

/// One message from the kernel, readable only inside the closure that it is given to.
struct NetlinkReply {
  let type: Int
  let flags: UInt16
  let sequence: UInt32
  /// The port of the socket that requested it or, in a notification, the change; 0 for the kernel.
  let port: UInt32
  /// What follows the netlink header.
  let payload: UnsafeRawBufferPointer

  /// Iterates over the complete messages in `bytes`. False if other data follows.
  static func forEach(
    in bytes: UnsafeRawBufferPointer, _ body: (NetlinkReply) throws(NetlinkError) -> Void
  ) throws(NetlinkError) -> Bool {
    var rest = bytes
    let size = MemoryLayout<nlmsghdr>.size
    while rest.count >= size {
      let header = rest.loadUnaligned(as: nlmsghdr.self)
      let length = Int(header.nlmsg_len)
      guard length >= size, length <= rest.count else { return false }
      try body(
        NetlinkReply(
          type: Int(header.nlmsg_type), flags: header.nlmsg_flags, sequence: header.nlmsg_seq,
          port: header.nlmsg_pid, payload: UnsafeRawBufferPointer(rebasing: rest[size..<length])))
      rest = UnsafeRawBufferPointer(rebasing: rest[min(NetlinkReply.aligned(length), rest.count)...])
    }
    return rest.isEmpty
  }

  /// The family's fixed header; nil if the message is shorter.
  func header<Header: BitwiseCopyable>(_ type: Header.Type) -> Header? {
    payload.count >= MemoryLayout<Header>.size ? payload.loadUnaligned(as: type) : nil
  }

  /// The attributes after the family's header.
  func forEachAttribute<Header>(after header: Header.Type, _ body: (Int, NetlinkAttribute) -> Void) {
    let offset = NetlinkReply.aligned(MemoryLayout<Header>.size)
    guard payload.count > offset else { return }
    NetlinkAttribute(bytes: UnsafeRawBufferPointer(rebasing: payload[offset...])).forEach(body)
  }

  /// Rounds up to NLMSG_ALIGNTO, which is also NLA_ALIGNTO.
  static func aligned(_ length: Int) -> Int { (length + 3) & ~3 }
}

/// The value of one attribute. Every reader checks the length, so that a short value reads as nil.
struct NetlinkAttribute {
  let bytes: UnsafeRawBufferPointer

  var uint8: UInt8? { bytes.first }
  var uint32: UInt32? { bytes.count >= 4 ? bytes.loadUnaligned(as: UInt32.self) : nil }
  /// The text up to its closing zero.
  var text: String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }
  var address: IPAddress? { IPAddress(bytes: bytes) }
  var mac: MACAddress? { MACAddress(bytes: bytes) }

  /// Iterates over the attributes; stops at the first that does not fit.
  func forEach(_ body: (Int, NetlinkAttribute) -> Void) {
    var rest = bytes
    let size = MemoryLayout<nlattr>.size
    while rest.count >= size {
      let header = rest.loadUnaligned(as: nlattr.self)
      let length = Int(header.nla_len)
      guard length >= size, length <= rest.count else { return }
      // NLA_TYPE_MASK: the two high bits say nested and byte order.
      body(
        Int(header.nla_type & 0x3fff), NetlinkAttribute(bytes: UnsafeRawBufferPointer(rebasing: rest[size..<length])))
      rest = UnsafeRawBufferPointer(rebasing: rest[min(NetlinkReply.aligned(length), rest.count)...])
    }
  }
}

extension AddressFamily {
  /// AF_INET or AF_INET6.
  var number: UInt8 { self == .ipv4 ? UInt8(AF_INET) : UInt8(AF_INET6) }

  /// Nil for a family that is neither.
  init?(number: UInt8) {
    switch Int32(number) {
    case AF_INET: self = .ipv4
    case AF_INET6: self = .ipv6
    default: return nil
    }
  }
}

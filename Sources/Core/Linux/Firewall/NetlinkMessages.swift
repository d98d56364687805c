// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc

/// The netlink messages of one datagram, every length checked.
struct NetlinkMessages: Sequence, IteratorProtocol {
  struct Message {
    let type: UInt16
    let flags: UInt16
    let sequence: UInt32
    /// Nil unless the message is NLMSG_ERROR; number 0 is an acknowledgement.
    let error: (number: Int32, text: String?)?
    // SAFETY: points into the datagram, and `nlmsg_len` bytes from there were checked to lie within it.
    let header: UnsafePointer<nlmsghdr>
  }

  private var rest: Slice<UnsafeRawBufferPointer>
  private static let headerSize = MemoryLayout<nlmsghdr>.size

  /// - Parameter datagram: must outlive the sequence and be aligned to 4.
  init(_ datagram: UnsafeRawBufferPointer) { rest = datagram[...] }

  mutating func next() -> Message? {
    let bytes = UnsafeRawBufferPointer(rebasing: rest)
    guard bytes.count >= Self.headerSize, let base = bytes.baseAddress else { return nil }
    let header = bytes.loadUnaligned(as: nlmsghdr.self)
    let length = Int(header.nlmsg_len)
    guard length >= Self.headerSize, length <= bytes.count else { return nil }
    rest = rest.dropFirst((length + 3) & ~3)
    let message = UnsafeRawBufferPointer(rebasing: bytes[..<length])
    return Message(
      type: header.nlmsg_type, flags: header.nlmsg_flags, sequence: header.nlmsg_seq,
      error: header.nlmsg_type == UInt16(NLMSG_ERROR) ? Self.readError(message, flags: header.nlmsg_flags) : nil,
      header: base.assumingMemoryBound(to: nlmsghdr.self))
  }

  /// struct nlmsgerr after the header: the error, the refused message's header, then attributes.
  private static func readError(_ message: UnsafeRawBufferPointer, flags: UInt16) -> (number: Int32, text: String?) {
    let attributes = headerSize + 4 + headerSize
    guard message.count >= headerSize + 4 else { return (EBADMSG, nil) }
    // Without a trap for Int32.min.
    let number = 0 &- message.loadUnaligned(fromByteOffset: headerSize, as: Int32.self)
    guard number != 0, flags & UInt16(NLM_F_ACK_TLVS) != 0, message.count >= attributes else { return (number, nil) }
    var offset = attributes
    if flags & UInt16(NLM_F_CAPPED) == 0 {
      let refused = message.loadUnaligned(fromByteOffset: headerSize + 4, as: nlmsghdr.self)
      offset = headerSize + 4 + ((Int(refused.nlmsg_len) + 3) & ~3)
    }
    while offset + 4 <= message.count {
      let length = Int(message.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
      let type = message.loadUnaligned(fromByteOffset: offset + 2, as: UInt16.self)
      guard length >= 4, offset + length <= message.count else { break }
      if type == UInt16(NLMSGERR_ATTR_MSG.rawValue) {
        let text = message[(offset + 4)..<(offset + length)].prefix { $0 != 0 }
        return (number, String(decoding: text, as: UTF8.self))
      }
      offset += (length + 3) & ~3
    }
    return (number, nil)
  }
}

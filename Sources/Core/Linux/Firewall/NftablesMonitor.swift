// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel

/// A socket that receives a notification of every nftables change in the namespace in which it was opened
/// (NFNLGRP_NFTABLES), including iptables-nft's.
///
/// Each transaction ends with a message that names the program that made it. Needs neither libmnl nor libnftnl.
package final class NftablesMonitor {
  /// One added or removed object, or the end of a transaction.
  package struct Notice: Sendable, Hashable {
    package enum Event: Sendable, Hashable {
      /// A table, or anything within it.
      case table(String, family: AddressFamily)
      /// A rule or chain; `chain` is its name.
      case chain(String, table: String, family: AddressFamily)
      /// NFT_MSG_NEWGEN: the transaction is complete. The program's name has at most 15 bytes.
      case committed(process: UInt32, program: String)
      /// The queue was full and notifications are missing: everything may have changed.
      case lost
    }
    package let event: Event
    /// The port of the socket that requested it.
    package let port: UInt32
  }

  let descriptor: Int32
  /// The kernel sends several messages at once, up to its own limit of a page or so.
  // SAFETY: allocated in `init` when nothing can fail any more, freed in `deinit`.
  private let buffer: UnsafeMutableRawBufferPointer
  /// The rest of the last datagram, the next notification last.
  private var pending: [Notice] = []

  /// - Parameter queueSize: bytes that the kernel keeps until they are read.
  /// - Throws: `unsupported` if the kernel has no netfilter netlink.
  package init(queueSize: Int32) throws(NetlinkError) {
    descriptor = try NetlinkSocket.open(groups: [NFNLGRP_NFTABLES.rawValue], family: NETLINK_NETFILTER)
    buffer = .allocate(byteCount: 65_536, alignment: 16)
    NetlinkMonitor.setQueue(queueSize, of: descriptor)
  }

  deinit {
    close(descriptor)
    buffer.deallocate()
  }

  /// Waits for the next notification.
  ///
  /// - Returns: nil when the deadline has passed without one.
  package func next(until deadline: ContinuousClock.Instant) throws(NetlinkError) -> Notice? {
    while true {
      if let notice = pending.popLast() { return notice }
      do throws(NetlinkError) {
        let what = { "wait for a change of nftables" }
        let bytes = try NetlinkSocket.receive(on: descriptor, into: buffer, until: deadline, for: what)
        var notices: [Notice] = []
        let isWhole = try NetlinkReply.forEach(in: bytes) { (reply) throws(NetlinkError) in
          if let event = Notice.Event(reply: reply) { notices.append(Notice(event: event, port: reply.port)) }
        }
        guard isWhole else { throw NetlinkError(.malformed, what()) }
        pending = notices.reversed()
      } catch {
        if error.code == .timedOut { return nil }
        guard error.errno == ENOBUFS else { throw error }
        return Notice(event: .lost, port: 0)
      }
    }
  }
}

extension NftablesMonitor.Notice.Event {
  /// Nil for a message of another subsystem, of a family other than IPv4 and IPv6, or without a table name.
  init?(reply: NetlinkReply) {
    guard reply.type >> 8 == Int(NFNL_SUBSYS_NFTABLES), let header = reply.header(nfgenmsg.self) else { return nil }
    // Type 1 is the table in each object's attributes; a rule has its chain's name in 2, a chain its own in 3.
    var (first, second, third): (NetlinkAttribute?, NetlinkAttribute?, NetlinkAttribute?)
    reply.forEachAttribute(after: nfgenmsg.self) { type, value in
      switch type {
      case 1: first = value
      case 2: second = value
      case 3: third = value
      default: break
      }
    }
    let message = nf_tables_msg_types(UInt32(reply.type & 0xff))
    if message == NFT_MSG_NEWGEN {
      self = .committed(process: second?.uint32.map { UInt32(bigEndian: $0) } ?? 0, program: third?.text ?? "")
      return
    }
    // NFPROTO_IPV4, NFPROTO_IPV6.
    let family: AddressFamily? = header.nfgen_family == 2 ? .ipv4 : header.nfgen_family == 10 ? .ipv6 : nil
    guard let family, let table = first?.text, !table.isEmpty else { return nil }
    switch message {
    case NFT_MSG_NEWRULE, NFT_MSG_DELRULE: self = .chain(second?.text ?? "", table: table, family: family)
    case NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN: self = .chain(third?.text ?? "", table: table, family: family)
    default: self = .table(table, family: family)
    }
  }
}

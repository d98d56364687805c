// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
internal import VPCModel

/// A connection to nf_tables of the network namespace that the opening thread was in.
///
/// The socket stays in this namespace whatever the thread does later. Every call blocks until the kernel has answered,
/// five seconds at most; one caller at a time, on a thread that may block.
package final class NftablesSocket {
  // SAFETY: owned here alone and closed in `deinit`; nothing outside this file sees it.
  private let handle: OpaquePointer
  // SAFETY: allocated in `init`, freed in `deinit`, used by one call at a time because the class is not Sendable.
  private let buffer: UnsafeMutableRawBufferPointer
  /// Of the last message sent. It wraps.
  private var sequence: UInt32
  private let timeoutMilliseconds: Int32

  /// Room for one datagram: the kernel's dumps send up to 32 KiB at once.
  private static let bufferSize = 65_536

  /// Loads libmnl and libnftnl on first use in the process and opens a socket.
  ///
  /// - Parameter sequence: the number after which messages are counted.
  /// - Throws: `.unavailable` if a library or netfilter netlink is missing, or nf_tables does not answer; `.refused` if
  ///   the process may not open it.
  package init(timeoutMilliseconds: Int32 = 5000, sequence: UInt32 = 1) throws(NftablesError) {
    try NftablesLibrary.load()
    let what = "open a netfilter netlink socket"
    guard let handle = cnft_mnl_socket_open2(NETLINK_NETFILTER, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
    else {
      let number = errno
      let missing = [EPROTONOSUPPORT, EAFNOSUPPORT, ESOCKTNOSUPPORT].contains(number)
      throw NftablesError(missing ? .unavailable : .refused, what, errno: number)
    }
    self.handle = handle
    self.timeoutMilliseconds = timeoutMilliseconds
    self.sequence = sequence
    buffer = .allocate(byteCount: Self.bufferSize, alignment: 16)
    // Port 0 lets the kernel choose, so that two sockets of one process do not clash.
    guard cnft_mnl_socket_bind(handle, 0, 0) == 0 else { throw NftablesError(.refused, what, errno: errno) }
    // Errors carry the kernel's message and do not echo the request. Both are optional: failure is harmless.
    for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
      var on: Int32 = 1
      _ = cnft_mnl_socket_setsockopt(handle, option, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    // A refused batch of thousands of elements answers with an error for each.
    var size: Int32 = 4 << 20
    _ = setsockopt(
      cnft_mnl_socket_get_fd(handle), SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<Int32>.size))
    do {
      _ = try generation()
    } catch {
      // The multiplexer answers EINVAL or EOPNOTSUPP for a subsystem that it does not have.
      let missing = [EINVAL, EOPNOTSUPP, ENOENT].contains(error.errno)
      throw missing ? NftablesError(.unavailable, "find nf_tables in the kernel", errno: error.errno) : error
    }
  }

  deinit {
    _ = cnft_mnl_socket_close(handle)
    buffer.deallocate()
  }

  /// The port that the kernel has given this socket; notifications name it as the author of a change.
  package var port: UInt32 { NetlinkSocket.port(of: cnft_mnl_socket_get_fd(handle)) }

  /// The generation of the rule set (NFT_MSG_GETGEN): every transaction in this namespace raises it.
  package func generation() throws(NftablesError) -> UInt32 {
    var result: UInt32?
    try request(NFT_MSG_GETGEN, family: 0, flags: 0, what: "read the rule set's generation") { _ in
    } each: { message in
      if let found = NftablesAnswer.generation(message) { result = found }
    }
    guard let result else { throw NftablesError(.malformed, "read the rule set's generation") }
    return result
  }

  /// Makes all the changes or none. An empty transaction does not reach the kernel.
  ///
  /// - Parameter generation: the result of `generation()` before the state was read; nil to skip the check.
  /// - Throws: `.refused` with the first object that the kernel refused and its error number; `.interrupted` if the
  ///   generation has changed; `.timedOut`.
  package func commit(_ transaction: NftablesTransaction, generation: UInt32? = nil) throws(NftablesError) {
    guard !transaction.isEmpty else { return }
    sequence &+= 1
    let batch = try NftablesBatch(transaction, sequence: sequence, generation: generation)
    let first = sequence
    // The sequence numbers of the batch: its begin, one per message, its end.
    sequence = batch.lastSequence &+ 1
    try send(batch.bytes, what: "send \(transaction.steps.count) changes of nftables")
    var failure: NftablesError?
    var acknowledged = false
    while !acknowledged {
      // One error is enough: further errors are already queued, since the kernel works within `send`.
      guard let datagram = try receive(wait: failure == nil, what: "wait for the kernel's answer") else { break }
      for message in NetlinkMessages(datagram) {
        guard let answer = message.error, message.sequence &- first <= sequence &- first else { continue }
        if answer.number == 0 {
          // If an earlier object failed, its error came before this.
          if message.sequence == batch.lastSequence { acknowledged = true }
        } else if failure == nil {
          let object = batch.objects[message.sequence] ?? "change nftables"
          let interrupted = answer.number == ERESTART || answer.number == EINTR
          failure = NftablesError(
            interrupted ? .interrupted : .refused, object, errno: interrupted ? 0 : answer.number,
            detail: interrupted ? "the rule set changed meanwhile" : answer.text)
        }
      }
    }
    if let failure { throw failure }
  }

  /// Requests objects: one answer, or a list with NLM_F_DUMP.
  ///
  /// - Parameters:
  ///   - fill: writes the attributes that choose the objects.
  ///   - each: receives every object's message, valid only during the call.
  /// - Throws: `.interrupted` if the list changed while it was read; `.refused` with the error number otherwise.
  func request(
    _ type: nf_tables_msg_types, family: UInt16, flags: UInt16, what: @autoclosure () -> String,
    fill: (UnsafeMutablePointer<nlmsghdr>) -> Void, each: (UnsafePointer<nlmsghdr>) -> Void
  ) throws(NftablesError) {
    sequence &+= 1
    // SAFETY: the closure only writes the few attributes that choose an object, names of 64 bytes at most.
    let bytes = withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 16) { room -> [UInt8] in
      guard let base = room.baseAddress else { return [] }
      let kind = UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(type.rawValue)
      guard
        let header = cnft_nftnl_nlmsg_build_hdr(
          base.assumingMemoryBound(to: CChar.self), kind, family, flags | UInt16(NLM_F_ACK), sequence)
      else { return [] }
      fill(header)
      return Array(UnsafeRawBufferPointer(start: base, count: Int(header.pointee.nlmsg_len)))
    }
    try send(bytes, what: what())
    var interrupted = false
    while let datagram = try receive(wait: true, what: what()) {
      for message in NetlinkMessages(datagram) where message.sequence == sequence {
        if message.flags & UInt16(NLM_F_DUMP_INTR) != 0 { interrupted = true }
        if let answer = message.error {
          guard answer.number == 0 else {
            throw NftablesError(.refused, what(), errno: answer.number, detail: answer.text)
          }
          return
        }
        if message.type == UInt16(NLMSG_DONE) {
          if interrupted { throw NftablesError(.interrupted, what(), detail: "the rule set changed meanwhile") }
          return
        }
        if message.type >> 8 == UInt16(NFNL_SUBSYS_NFTABLES) { each(message.header) }
      }
    }
  }

  private func send(_ bytes: [UInt8], what: @autoclosure () -> String) throws(NftablesError) {
    if bytes.count > 100_000 {
      // A batch is one datagram and must fit into the send buffer; the forced form ignores net.core.wmem_max.
      var size = Int32(clamping: bytes.count * 2)
      let length = socklen_t(MemoryLayout<Int32>.size)
      _ = setsockopt(cnft_mnl_socket_get_fd(handle), SOL_SOCKET, SO_SNDBUFFORCE, &size, length)
    }
    drain()
    guard cnft_mnl_socket_sendto(handle, bytes, bytes.count) == bytes.count else {
      throw NftablesError(.refused, what(), errno: errno)
    }
  }

  /// Drops answers that an earlier failed call left unread.
  private func drain() {
    while cnft_mnl_socket_recvfrom(handle, buffer.baseAddress, buffer.count) > 0 {}
  }

  /// The next datagram; nil if there is none and `wait` is false. The bytes are valid until the next call.
  private func receive(wait: Bool, what: @autoclosure () -> String) throws(NftablesError) -> UnsafeRawBufferPointer? {
    while true {
      let count = cnft_mnl_socket_recvfrom(handle, buffer.baseAddress, buffer.count)
      if count >= 0 { return UnsafeRawBufferPointer(rebasing: buffer[..<count]) }
      switch errno {
      case EINTR: continue
      case EAGAIN:
        guard wait else { return nil }
        var entry = pollfd(fd: cnft_mnl_socket_get_fd(handle), events: Int16(POLLIN), revents: 0)
        if poll(&entry, 1, timeoutMilliseconds) == 0 { throw NftablesError(.timedOut, what()) }
      case let number: throw NftablesError(.refused, what(), errno: number)
      }
    }
  }
}

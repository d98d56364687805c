// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCModel

extension NetlinkSocket {
  /// The content of NLMSG_ERROR.
  struct Failure {
    let errno: Int32
    let text: String?
  }

  /// Sends the requests in one system call and reads all answers.
  ///
  /// Only the last request requests an acknowledgement: the kernel answers in order and always reports errors, so when
  /// the last is answered, all are.
  /// - Parameter reply: called with the index of the request and each message that answers it.
  /// - Returns: for each request its failure, or nil.
  func exchange(
    _ requests: [NetlinkRequest], reply: (Int, NetlinkReply) throws(NetlinkError) -> Void
  ) throws(NetlinkError) -> [Failure?] {
    guard let last = requests.last else { return [] }
    let first = lastSequence &+ 1
    lastSequence &+= UInt32(requests.count)
    try send(requests, first: first)

    var failures = [Failure?](repeating: nil, count: requests.count)
    var finished = false
    let deadline = ContinuousClock.now + timeout
    while !finished {
      try receive(until: deadline, for: last.text) { (message) throws(NetlinkError) in
        let index = Int(message.sequence &- first)
        // An answer to a request that timed out earlier is dropped.
        guard index < requests.count else { return }
        switch Int32(message.type) {
        case NLMSG_ERROR:
          failures[index] = failure(in: message, offset: MemoryLayout<nlmsgerr>.size)
          if index == requests.count - 1 { finished = true }
        case NLMSG_NOOP, NLMSG_DONE, NLMSG_OVERRUN: break
        default: try reply(index, message)
        }
      }
    }
    return failures
  }

  private func send(_ requests: [NetlinkRequest], first: UInt32) throws(NetlinkError) {
    var vectors: [iovec] = []
    for (index, request) in requests.enumerated() {
      guard let header = request.message.header else { throw NetlinkError(.invalid, request.text()) }
      header.pointee.nlmsg_seq = first &+ UInt32(index)
      if index == requests.count - 1 { header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK) }
      vectors.append(iovec(iov_base: header, iov_len: Int(header.pointee.nlmsg_len)))
    }
    try send(&vectors, for: { requests.last?.text() ?? "send" })
    // Keeps the messages that the vectors point into.
    withExtendedLifetime(requests) {}
  }

  /// Requests a list and converts each message into a value.
  ///
  /// A list that changed while it was read (NLM_F_DUMP_INTR) is read again, at most five times in all.
  /// - Parameters:
  ///   - gone: errno values for an empty list, such as for a table that does not exist.
  ///   - transform: must not use this socket, whose buffer holds the message.
  /// - Throws: `interrupted` after the fifth try; what `transform` throws.
  func dump<Value>(
    _ request: NetlinkRequest, gone: [Int32] = [], transform: (NetlinkReply) throws(NetlinkError) -> Value?
  ) throws(NetlinkError) -> [Value] {
    for _ in 0..<5 {
      let (values, failure, isInterrupted) = try dumpOnce(request, transform)
      // Some dumps report the interruption as an error at the end.
      if isInterrupted || failure?.errno == EINTR { continue }
      guard let failure, !gone.contains(failure.errno) else { return values }
      throw NetlinkError(errno: failure.errno, request: request.text(), detail: failure.text)
    }
    throw NetlinkError(.interrupted, request.text())
  }

  private func dumpOnce<Value>(
    _ request: NetlinkRequest, _ transform: (NetlinkReply) throws(NetlinkError) -> Value?
  ) throws(NetlinkError) -> (values: [Value], failure: Failure?, isInterrupted: Bool) {
    guard let header = request.message.header else { throw NetlinkError(.invalid, request.text()) }
    lastSequence &+= 1
    let sequence = lastSequence
    header.pointee.nlmsg_seq = sequence
    header.pointee.nlmsg_flags |= UInt16(NLM_F_DUMP)
    var vectors = [iovec(iov_base: header, iov_len: Int(header.pointee.nlmsg_len))]
    try send(&vectors, for: request.text)
    withExtendedLifetime(request.message) {}

    var values: [Value] = []
    var failed: Failure?
    var (isFinished, isInterrupted) = (false, false)
    while !isFinished {
      try receive(until: ContinuousClock.now + timeout, for: request.text) { (message) throws(NetlinkError) in
        guard message.sequence == sequence else { return }
        if message.flags & UInt16(NLM_F_DUMP_INTR) != 0 { isInterrupted = true }
        switch Int32(message.type) {
        case NLMSG_ERROR, NLMSG_DONE:
          // NLMSG_DONE carries only the number, NLMSG_ERROR also the header of the request.
          let isDone = Int32(message.type) == NLMSG_DONE
          failed = failure(in: message, offset: isDone ? MemoryLayout<Int32>.size : MemoryLayout<nlmsgerr>.size)
          isFinished = true
        case NLMSG_NOOP, NLMSG_OVERRUN: break
        default: if let value = try transform(message) { values.append(value) }
        }
      }
    }
    return (values, failed, isInterrupted)
  }

  /// Reads the error number at the start of NLMSG_ERROR and NLMSG_DONE; the extended ack's attributes are at `offset`
  /// (with NETLINK_CAP_ACK the kernel does not echo the request in between). Nil for success.
  private func failure(in message: NetlinkReply, offset: Int) -> Failure? {
    guard message.payload.count >= 4 else { return nil }
    let code = message.payload.loadUnaligned(as: Int32.self)
    guard code < 0 else { return nil }
    var text: String?
    if message.flags & UInt16(NLM_F_ACK_TLVS) != 0, message.payload.count > offset {
      NetlinkAttribute(bytes: UnsafeRawBufferPointer(rebasing: message.payload[offset...])).forEach { type, value in
        if type == Int(NLMSGERR_ATTR_MSG.rawValue) { text = String(value.text.prefix(256)) }
      }
    }
    return Failure(errno: 0 &- code, text: text)
  }
}

extension NetlinkSocket {
  /// Asks for one object.
  ///
  /// - Parameter absent: the errno values for "does not exist".
  /// - Returns: nil if it does not exist.
  func get<Value>(
    _ request: NetlinkRequest, absent: [Int32], transform: (NetlinkReply) -> Value?
  ) throws(NetlinkError) -> Value? {
    var value: Value?
    let failures = try exchange([request]) { (_, reply) throws(NetlinkError) in value = transform(reply) }
    if let failure = failures.first, let failure {
      if absent.contains(failure.errno) { return nil }
      throw NetlinkError(errno: failure.errno, request: request.text(), detail: failure.text)
    }
    guard let value else { throw NetlinkError(.malformed, request.text()) }
    return value
  }
}

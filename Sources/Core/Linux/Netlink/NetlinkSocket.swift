// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCModel
internal import VPCSystem

/// A netlink socket, usually NETLINK_ROUTE: sends requests to the kernel and reads its answers, blocking.
///
/// The socket belongs to the network namespace in which it was opened, whatever thread uses it
/// (`NetworkNamespace.openSocket`). It has no cache. It is not Sendable: one thread or one actor uses it.
package final class NetlinkSocket {
  let descriptor: Int32
  let timeout: Duration
  private let buffer: UnsafeMutableRawBufferPointer
  var lastSequence: UInt32

  /// Requests in one sendmsg: this number of answers fits into the default receive buffer even if every one is an
  /// error.
  private static let batchLimit = 64

  /// Opens a socket in the calling thread's network namespace. The port id is 0, so that the kernel chooses one.
  ///
  /// - Parameters:
  ///   - family: NETLINK_ROUTE, or NETLINK_NETFILTER.
  ///   - timeout: how long to wait for each answer. The kernel works while it accepts the request, and that part cannot
  ///     be interrupted; the timeout bounds a lost answer.
  ///   - bufferSize: bytes for one receive. The kernel fills at most 32 KiB of a dump into one.
  /// - Throws: `outOfResources`, `notPermitted`, `unsupported`.
  package init(
    timeout: Duration = .seconds(5), bufferSize: Int = 32768, family: Int32 = NETLINK_ROUTE
  ) throws(NetlinkError) {
    descriptor = try NetlinkSocket.open(groups: [], family: family)
    self.timeout = timeout
    buffer = .allocate(byteCount: bufferSize, alignment: 16)
    // Answers to an earlier owner of this port id must not match.
    lastSequence = UInt32.random(in: 1...0x7fff_ffff)
  }

  deinit {
    close(descriptor)
    buffer.deallocate()
  }

  /// The port that the kernel has given this socket; notifications name it as the author of a change. 0 if it cannot be
  /// read.
  package var port: UInt32 { NetlinkSocket.port(of: descriptor) }

  /// Requests one change.
  ///
  /// - Throws: `NetlinkError` with the kernel's reason. "Already so" and "already gone" are results.
  @discardableResult
  package func perform(_ request: NetlinkRequest) throws(NetlinkError) -> NetlinkOutcome {
    guard let result = try performEach([request]).first else { return .done }
    return try result.get()
  }

  /// Requests several changes in one system call; the kernel applies them in order.
  ///
  /// A failed request does not stop the following ones. Whether an add counts as "already so" is decided when all are
  /// done, so do not add and delete one object in one call.
  /// - Throws: the first failure.
  package func perform(_ requests: [NetlinkRequest]) throws(NetlinkError) {
    for result in try performEach(requests) { _ = try result.get() }
  }

  /// As `perform`, but returns the result of each request, in order.
  ///
  /// - Throws: if the answers are lost; then it is unknown what was done.
  package func performEach(
    _ requests: [NetlinkRequest]
  ) throws(NetlinkError) -> [Result<NetlinkOutcome, NetlinkError>] {
    var results: [Result<NetlinkOutcome, NetlinkError>] = []
    var rest = requests[...]
    while !rest.isEmpty {
      let batch = Array(rest.prefix(NetlinkSocket.batchLimit))
      rest = rest.dropFirst(batch.count)
      let failures = try exchange(batch) { (_, _) throws(NetlinkError) in }
      for (request, failure) in zip(batch, failures) { results.append(judge(request, failure)) }
    }
    return results
  }

  private func judge(_ request: NetlinkRequest, _ failure: Failure?) -> Result<NetlinkOutcome, NetlinkError> {
    guard let failure else { return .success(.done) }
    if request.gone.contains(failure.errno) { return .success(.alreadyGone) }
    do throws(NetlinkError) {
      if failure.errno == EEXIST, let outcome = try request.resolve?(self) { return .success(outcome) }
    } catch {
      return .failure(error)
    }
    return .failure(NetlinkError(errno: failure.errno, request: request.text(), detail: failure.text))
  }
}

extension NetlinkSocket {
  static func port(of descriptor: Int32) -> UInt32 {
    var address = sockaddr_nl()
    var size = socklen_t(MemoryLayout<sockaddr_nl>.size)
    // SAFETY: getsockname writes at most the size given, before it returns.
    let result = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
    }
    return result == 0 ? address.nl_pid : 0
  }

  /// Opens, binds with port id 0 and joins the groups (RTNLGRP_…, NFNLGRP_…).
  ///
  /// - Parameter family: NETLINK_ROUTE, or NETLINK_NETFILTER.
  static func open(groups: [UInt32], family: Int32 = NETLINK_ROUTE) throws(NetlinkError) -> Int32 {
    let name = family == NETLINK_ROUTE ? "route" : "netfilter"
    let descriptor = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue | SOCK_CLOEXEC.rawValue), family)
    guard descriptor >= 0 else { throw NetlinkError(errno: errno, request: "open a \(name) netlink socket") }
    // Kernels before 4.12 and 4.20 lack these; answers then have no kernel message, and lists are filtered only here.
    for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
      var on: Int32 = 1
      setsockopt(descriptor, SOL_NETLINK, option, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    var address = sockaddr_nl()
    address.nl_family = sa_family_t(AF_NETLINK)
    // SAFETY: bind reads the address as the family says, for the size given, before it returns.
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_nl>.size))
      }
    }
    var result = bound
    for var group in groups where result == 0 {
      result = setsockopt(
        descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, socklen_t(MemoryLayout<UInt32>.size))
    }
    guard result == 0 else {
      let code = errno
      close(descriptor)
      throw NetlinkError(errno: code, request: "bind a \(name) netlink socket")
    }
    return descriptor
  }

  func send(_ vectors: inout [iovec], for request: () -> String) throws(NetlinkError) {
    // SAFETY: the vectors point into messages that the caller keeps until this returns; sendmsg copies.
    let code: Int32 = vectors.withUnsafeMutableBufferPointer { vectors in
      var message = msghdr()
      message.msg_iov = vectors.baseAddress
      message.msg_iovlen = vectors.count
      while sendmsg(descriptor, &message, 0) < 0 {
        if errno != EINTR { return errno }
      }
      return 0
    }
    guard code == 0 else { throw NetlinkError(errno: code, request: request()) }
  }

  /// Reads one datagram and passes its messages on.
  func receive(
    until deadline: ContinuousClock.Instant, for request: () -> String,
    _ body: (NetlinkReply) throws(NetlinkError) -> Void
  ) throws(NetlinkError) {
    let bytes = try NetlinkSocket.receive(on: descriptor, into: buffer, until: deadline, for: request)
    guard try NetlinkReply.forEach(in: bytes, body) else {
      throw NetlinkError(.malformed, request())
    }
  }

  /// Waits for one datagram from the kernel. Datagrams of other processes are skipped.
  ///
  /// - Returns: the filled part of `buffer`.
  /// - Throws: `timedOut`; `malformed` if the datagram is longer than the buffer; ENOBUFS as `outOfResources`.
  static func receive(
    on descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer, until deadline: ContinuousClock.Instant,
    for request: () -> String
  ) throws(NetlinkError) -> UnsafeRawBufferPointer {
    while true {
      var sender = sockaddr_nl()
      var vector = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
      var message = msghdr()
      // SAFETY: all pointers in the header are used by recvmsg alone and outlive it.
      let count = withUnsafeMutablePointer(to: &sender) { sender in
        withUnsafeMutablePointer(to: &vector) { vector in
          message.msg_name = UnsafeMutableRawPointer(sender)
          message.msg_namelen = socklen_t(MemoryLayout<sockaddr_nl>.size)
          message.msg_iov = vector
          message.msg_iovlen = 1
          // The answer is usually queued when sendmsg returns, so waiting is the exception.
          return recvmsg(descriptor, &message, Int32(MSG_DONTWAIT))
        }
      }
      if count >= 0 {
        guard sender.nl_pid == 0 else { continue }
        guard message.msg_flags & Int32(MSG_TRUNC) == 0 else {
          throw NetlinkError(.malformed, request(), detail: "longer than \(buffer.count) bytes")
        }
        return UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count])
      }
      switch errno {
      case EINTR: continue
      case EAGAIN: try wait(for: descriptor, until: deadline, request)
      default: throw NetlinkError(errno: errno, request: request())
      }
    }
  }

  private static func wait(
    for descriptor: Int32, until deadline: ContinuousClock.Instant, _ request: () -> String
  ) throws(NetlinkError) {
    let left = ContinuousClock.now.duration(to: deadline)
    guard left > .zero else { throw NetlinkError(.timedOut, request()) }
    var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    if Glibc.poll(&poll, 1, left.pollMilliseconds) < 0, errno != EINTR {
      throw NetlinkError(errno: errno, request: request())
    }
  }
}

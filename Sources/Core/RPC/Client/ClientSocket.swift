// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel
import VPCSystem

/// A connected stream socket with a time limit on every wait. Closed when its owner releases it.
struct ClientSocket: ~Copyable {
  private let descriptor: Int32

  /// Connects, waiting at most until `limit`: a unix server with a full backlog, or a TCP peer that does not answer.
  ///
  /// A TCP host name is looked up first by the system's resolver, which has time limits of its own.
  ///
  /// - Throws: the failed call; `connect` with ETIMEDOUT when the limit passed.
  static func connected(
    to target: RPCTarget, until limit: ContinuousClock.Instant
  ) throws(SocketError) -> ClientSocket {
    switch target {
    case .unix(let path): try connectUnix(path, until: limit)
    case .tcp(let host, let port): try connectTCP(host, port, until: limit)
    }
  }

  private init(_ family: Int32) throws(SocketError) {
    descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw SocketError(call: "socket", errno: errno) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Writes everything.
  ///
  /// - Throws: `send` with EPIPE when the peer is gone, ETIMEDOUT when it does not read until the deadline.
  func write(_ bytes: [UInt8], until deadline: ContinuousClock.Instant) throws(SocketError) {
    var sent = 0
    while sent < bytes.count {
      // MSG_DONTWAIT: the descriptor blocks (connect wants that), and only `poll` knows the deadline.
      // SAFETY: the pointer lives for the call, which reads `bytes.count - sent` bytes from `sent` on.
      let count = bytes.withUnsafeBytes {
        send(descriptor, $0.baseAddress?.advanced(by: sent), $0.count - sent, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
      }
      if count >= 0 {
        sent += count
      } else if errno == EAGAIN {
        guard try wait(for: POLLOUT, until: deadline) else { throw SocketError(call: "send", errno: ETIMEDOUT) }
      } else if errno != EINTR {
        throw SocketError(call: "send", errno: errno)
      }
    }
  }

  /// Waits until something can be read (or the peer is gone), at most until `limit`.
  ///
  /// Returns: false when the time is over.
  func waitReadable(until limit: ContinuousClock.Instant) throws(SocketError) -> Bool {
    try wait(for: POLLIN, until: limit)
  }

  /// Reads what is there, after `waitReadable`, into the front of `buffer`.
  ///
  /// Returns: the count of bytes, 0 at the end of the stream, nil when nothing is there after all.
  func read(into buffer: inout [UInt8]) throws(SocketError) -> Int? {
    // SAFETY: the pointer lives for the call, which writes `buffer.count` bytes at most.
    let count = buffer.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT)) }
    if count >= 0 { return count }
    guard errno == EAGAIN || errno == EINTR else { throw SocketError(call: "recv", errno: errno) }
    return nil
  }

  private func wait(for events: Int32, until limit: ContinuousClock.Instant) throws(SocketError) -> Bool {
    while true {
      let left = ContinuousClock.now.duration(to: limit)
      guard left > .zero else { return false }
      var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let count = poll(&entry, 1, left.pollMilliseconds)
      if count > 0 { return true }
      if count < 0, errno != EINTR { throw SocketError(call: "poll", errno: errno) }
    }
  }
}

extension ClientSocket {
  private static func connectUnix(
    _ path: String, until limit: ContinuousClock.Instant
  ) throws(SocketError) -> ClientSocket {
    guard let address = SocketAddress(unix: path) else { throw SocketError(call: "connect", errno: ENAMETOOLONG) }
    let connection = try ClientSocket(AF_UNIX)
    // A full backlog makes a blocking connect wait, and a non-blocking one fail without a way to wait: the time limit
    // on sending is the one that the kernel also applies to connect. Source: unix(7), net/unix/af_unix.c.
    var time = timeval(remaining: ContinuousClock.now.duration(to: limit))
    setsockopt(connection.descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    guard address.withPointer({ connect(connection.descriptor, $0, $1) }) == 0 else {
      throw SocketError(call: "connect", errno: errno == EAGAIN ? ETIMEDOUT : errno)
    }
    return connection
  }

  private static func connectTCP(
    _ host: String, _ port: UInt16, until limit: ContinuousClock.Instant
  ) throws(SocketError) -> ClientSocket {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, String(port), &hints, &list) == 0 else {
      throw SocketError(call: "getaddrinfo", errno: EHOSTUNREACH)
    }
    defer { freeaddrinfo(list) }
    var last = SocketError(call: "connect", errno: EHOSTUNREACH)
    var next = list
    while let entry = next {
      do throws(SocketError) {
        return try connectOne(entry.pointee, until: limit)
      } catch {
        last = error
      }
      next = entry.pointee.ai_next
    }
    throw last
  }

  private static func connectOne(
    _ entry: addrinfo, until limit: ContinuousClock.Instant
  ) throws(SocketError) -> ClientSocket {
    let candidate = try ClientSocket(entry.ai_family)
    // Non-blocking only for the connect: a TCP connect reports its end through poll.
    _ = fcntl(candidate.descriptor, F_SETFL, O_NONBLOCK)
    if connect(candidate.descriptor, entry.ai_addr, entry.ai_addrlen) != 0 {
      guard errno == EINPROGRESS else { throw SocketError(call: "connect", errno: errno) }
      guard try candidate.wait(for: POLLOUT, until: limit) else {
        throw SocketError(call: "connect", errno: ETIMEDOUT)
      }
      var failure: Int32 = 0
      var size = socklen_t(MemoryLayout<Int32>.size)
      getsockopt(candidate.descriptor, SOL_SOCKET, SO_ERROR, &failure, &size)
      guard failure == 0 else { throw SocketError(call: "connect", errno: failure) }
    }
    return candidate
  }
}

extension timeval {
  /// At least one microsecond: zero means no limit for the kernel.
  fileprivate init(remaining: Duration) {
    let microseconds = Int(max(remaining.wholeMicroseconds, 1))
    self.init(tv_sec: microseconds / 1_000_000, tv_usec: microseconds % 1_000_000)
  }
}

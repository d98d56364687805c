// SPDX-License-Identifier: Apache-2.0

import Glibc
package import VPCModel
import VPCSystem

/// One GET from an `HTTPEndpoint`, over TCP or a unix socket, by blocking calls. For the command-line tools: they work
/// without libcurl, and every wait and size has a limit.
package struct HTTPFetch: Sendable {
  package let address: ListenAddress
  /// From the connection's start to the last byte.
  package var timeout: Duration = .seconds(3)
  /// Bytes of the whole answer.
  package var sizeLimit = 8 << 20

  package init(_ address: ListenAddress) { self.address = address }

  /// Why there is no answer.
  package struct Failure: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String
    /// No process listens there.
    package var isRefused = false
  }

  /// The body of a 200 answer. Blocks.
  ///
  /// - Parameter path: begins with a slash.
  package func get(_ path: String) throws(Failure) -> [UInt8] {
    let deadline = ContinuousClock.now.advanced(by: timeout)
    let descriptor = try connect(until: deadline)
    defer { close(descriptor) }
    let request = Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8)
    try write(request, to: descriptor, until: deadline)
    return try HTTPFetch.body(of: try read(from: descriptor, until: deadline), address)
  }

  // MARK: the answer

  /// Parses an answer: a status line, header fields, and the body, which ends with the connection or after
  /// Content-Length.
  static func body(of answer: [UInt8], _ address: ListenAddress) throws(Failure) -> [UInt8] {
    let end = Array("\r\n\r\n".utf8)
    var at = 0
    while at + end.count <= answer.count, !answer[at..<(at + end.count)].elementsEqual(end) { at += 1 }
    guard at + end.count <= answer.count else { throw Failure(description: "\(address): no HTTP answer") }
    let lines = String(decoding: answer[..<at], as: UTF8.self).split(separator: "\r\n")
    let words = lines.first?.split(separator: " ") ?? []
    guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
      throw Failure(description: "\(address): no HTTP answer")
    }
    let body = Array(answer[(at + end.count)...])
    guard status == 200 else { throw Failure(description: "\(address): HTTP status \(status)") }
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, parts[0].lowercased() == "content-length",
        let length = Int(parts[1].drop { $0 == " " })
      else { continue }
      guard length >= 0, body.count >= length else {
        throw Failure(description: "\(address): the answer ended after \(body.count) of \(length) bytes")
      }
      return Array(body.prefix(length))
    }
    return body
  }

  // MARK: the socket

  private func connect(until deadline: ContinuousClock.Instant) throws(Failure) -> Int32 {
    let name: SocketAddress?
    switch address {
    case .unix(let path): name = SocketAddress(unix: path)
    case .tcp(let host, let port):
      // A listener on all addresses listens on the loopback address too.
      name = SocketAddress(host ?? IPAddress(ipv4: 0x7f00_0001), port: UInt16(truncatingIfNeeded: port))
    }
    guard let name else { throw failure("connect", ENAMETOOLONG) }
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = socket(name.family, kind, 0)
    guard descriptor >= 0 else { throw failure("socket", errno) }
    do throws(Failure) {
      var code = name.withPointer { Glibc.connect(descriptor, $0, $1) == 0 ? 0 : errno }
      if code == EINPROGRESS {
        try wait(descriptor, for: POLLOUT, until: deadline)
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size)
      }
      guard code == 0 else { throw failure("connect", code) }
      return descriptor
    } catch {
      close(descriptor)
      throw error
    }
  }

  private func write(
    _ bytes: [UInt8], to descriptor: Int32, until deadline: ContinuousClock.Instant
  ) throws(Failure) {
    var rest = bytes[...]
    while !rest.isEmpty {
      // SAFETY: the bytes are read within the call alone.
      let count = rest.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count >= 0 {
        rest = rest.dropFirst(count)
      } else if errno == EAGAIN {
        try wait(descriptor, for: POLLOUT, until: deadline)
      } else if errno != EINTR {
        throw failure("send", errno)
      }
    }
  }

  private func read(from descriptor: Int32, until deadline: ContinuousClock.Instant) throws(Failure) -> [UInt8] {
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = recv(descriptor, &buffer, buffer.count, 0)
      if count == 0 { return answer }
      if count > 0 {
        answer += buffer[..<count]
        guard answer.count <= sizeLimit else {
          throw Failure(description: "\(address): the answer is larger than the \(sizeLimit) bytes allowed")
        }
      } else if errno == EAGAIN {
        try wait(descriptor, for: POLLIN, until: deadline)
      } else if errno != EINTR {
        throw failure("recv", errno)
      }
    }
  }

  private func wait(
    _ descriptor: Int32, for events: Int32, until deadline: ContinuousClock.Instant
  ) throws(Failure) {
    while true {
      let left = ContinuousClock.now.duration(to: deadline)
      guard left > .zero else { throw Failure(description: "\(address): no answer within \(timeout.brief)") }
      var entry = pollfd(fd: descriptor, events: Int16(events), revents: 0)
      let count = poll(&entry, 1, left.pollMilliseconds)
      if count > 0 { return }
      if count < 0, errno != EINTR { throw failure("poll", errno) }
    }
  }

  private func failure(_ call: String, _ code: Int32) -> Failure {
    Failure(
      description: "\(address): \(call): \(SystemErrorText.text(code))",
      isRefused: code == ECONNREFUSED || code == ENOENT)
  }
}

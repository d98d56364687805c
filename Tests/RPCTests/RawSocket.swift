// SPDX-License-Identifier: Apache-2.0

import Glibc
import VPCModel
import VPCSystem

@testable import VPCRPC

/// A client that sends whatever bytes it is given.
final class RawSocket: Sendable {
  let descriptor: Int32

  init(_ path: String) throws {
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard SocketAddress(unix: path)?.withPointer({ connect(descriptor, $0, $1) }) == 0 else {
      throw SocketError(call: "connect", errno: errno)
    }
  }

  init(owning descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Returns false if the peer is gone.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
  }

  /// Reads until the peer closes (`closed` is true), or until `limit` bytes or the time are used up.
  func drain(seconds: Double, limit: Int = 1 << 20) -> (bytes: [UInt8], closed: Bool) {
    var all: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let deadline = ContinuousClock.now.advanced(by: .seconds(seconds))
    while all.count < limit {
      let left = ContinuousClock.now.duration(to: deadline) / .milliseconds(1)
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard left > 0, poll(&entry, 1, Int32(left) + 1) > 0 else { return (all, false) }
      let count = recv(descriptor, &buffer, buffer.count, 0)
      guard count > 0 else { return (all, true) }
      all += buffer[..<count]
    }
    return (all, false)
  }
}

/// HTTP/2 frames written by hand.
enum RawFrame {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

  static func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    let size = payload.count
    return [UInt8(size >> 16 & 0xff), UInt8(size >> 8 & 0xff), UInt8(size & 0xff), type, flags]
      + [UInt8(stream >> 24), UInt8(stream >> 16 & 0xff), UInt8(stream >> 8 & 0xff), UInt8(stream & 0xff)] + payload
  }

  static let settings = frame(4)
  static let settingsAck = frame(4, flags: 1)

  /// A header block of literals without indexing. Source: RFC 7541, 6.2.2.
  static func block(_ headers: [(String, String)]) -> [UInt8] {
    headers.flatMap { name, value in
      [0, UInt8(name.utf8.count)] + Array(name.utf8) + integer(value.utf8.count) + Array(value.utf8)
    }
  }

  private static func integer(_ value: Int) -> [UInt8] {
    guard value >= 127 else { return [UInt8(value)] }
    var rest = value - 127
    var out: [UInt8] = [127]
    while rest >= 128 {
      out.append(UInt8(rest & 0x7f | 0x80))
      rest >>= 7
    }
    return out + [UInt8(rest)]
  }

  static func request(
    _ method: RPCMethod = .addNetwork, stream: UInt32 = 1, body: [UInt8], end: Bool = true,
    extra: [(String, String)] = []
  ) -> [UInt8] {
    let headers = [
      (":method", "POST"), (":scheme", "http"), (":path", method.path), (":authority", "localhost"),
      ("content-type", "application/grpc"), ("te", "trailers"),
    ]
    return frame(1, flags: 4, stream: stream, block(headers + extra))
      + frame(0, flags: end ? 1 : 0, stream: stream, body)
  }

  /// A server's complete answer on the first stream.
  static func answer(body: [UInt8], status: String = "0", message: String = "") -> [UInt8] {
    settings + frame(1, flags: 4, stream: 1, block([(":status", "200"), ("content-type", "application/grpc")]))
      + frame(0, stream: 1, body)
      + frame(1, flags: 5, stream: 1, block([("grpc-status", status), ("grpc-message", message)]))
  }
}

extension SplitMix64 {
  /// The bytes with a few of them changed, removed, doubled, or cut off.
  mutating func mutate(_ bytes: [UInt8]) -> [UInt8] {
    var out = bytes
    for _ in 0..<Int.random(in: 1...8, using: &self) where !out.isEmpty {
      let at = Int.random(in: 0..<out.count, using: &self)
      switch Int.random(in: 0..<6, using: &self) {
      case 0: out[at] ^= 1 << UInt8.random(in: 0..<8, using: &self)
      case 1: out[at] = UInt8.random(in: 0...255, using: &self)
      case 2: out[at] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &self) ?? 0
      case 3: out.remove(at: at)
      case 4: out.insert(contentsOf: out[at...].prefix(Int.random(in: 1...32, using: &self)), at: at)
      default: if Int.random(in: 0..<4, using: &self) == 0 { out.removeLast(out.count - at) }
      }
    }
    return out
  }
}

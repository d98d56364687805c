// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport

/// A small real HTTP server on a free port of 127.0.0.1 for good and bad answers. Ends on `stop` or deinit.
final class LoopbackServer: Sendable {
  struct Request: Sendable {
    let method: String
    let path: String
    let headers: [String: String]
    let body: [UInt8]

    var bodyText: String { String(decoding: body, as: UTF8.self) }
  }

  enum Reply: Sendable {
    /// A complete answer; the connection stays open.
    case answer(Int, [String: String] = [:], body: String = "")
    /// These bytes; then the connection is closed.
    case raw([UInt8])
    /// Nothing until the client is gone.
    case silence
    /// These bytes, then nothing until the client is gone.
    case stall([UInt8])

    static func text(_ body: String) -> Reply { .answer(200, body: body) }
  }

  private struct State {
    var connections: Set<Int32> = []
    var accepted = 0
    var requests: [Request] = []
    var isStopped = false
  }

  let port: UInt16
  private let listener: Int32
  private let state = Mutex(State())
  private let handler: @Sendable (Request) -> Reply

  var url: String { "http://127.0.0.1:\(port)" }
  var acceptedConnections: Int { state.withLock { $0.accepted } }
  var requests: [Request] { state.withLock { $0.requests } }

  init(_ handler: @escaping @Sendable (Request) -> Reply) throws {
    self.handler = handler
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    // SAFETY: the pointers are used only within the calls.
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, size) == 0 && listen(listener, 64) == 0 && getsockname(listener, $0, &size) == 0
      }
    }
    guard isListening else { throw ServerFailure(errno: errno) }
    port = UInt16(bigEndian: address.sin_port)
    TestThread.start { [self] in serve() }
  }

  struct ServerFailure: Error { let errno: Int32 }

  func stop() {
    state.withLock { state in
      state.isStopped = true
      shutdown(listener, Int32(SHUT_RDWR))
      for connection in state.connections { shutdown(connection, Int32(SHUT_RDWR)) }
    }
  }

  private func serve() {
    while true {
      let connection = accept(listener, nil, nil)
      guard connection >= 0 else { break }
      let isStopped = state.withLock { state in
        state.accepted += 1
        state.connections.insert(connection)
        return state.isStopped
      }
      if isStopped { shutdown(connection, Int32(SHUT_RDWR)) }
      TestThread.start { [self] in
        talk(connection)
        _ = state.withLock { $0.connections.remove(connection) }
        // A child that another test starts may have it open too: closing alone would not end it.
        shutdown(connection, Int32(SHUT_RDWR))
        close(connection)
      }
    }
    close(listener)
  }

  private func talk(_ connection: Int32) {
    var pending: [UInt8] = []
    while let request = read(connection, &pending) {
      state.withLock { $0.requests.append(request) }
      switch handler(request) {
      case .answer(let status, let headers, let body):
        var text = "HTTP/1.1 \(status) Status\r\nContent-Length: \(body.utf8.count)\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        guard send(connection, Array("\(text)\r\n\(body)".utf8)) else { return }
      case .raw(let bytes):
        _ = send(connection, bytes)
        return
      case .silence: return waitForClose(connection)
      case .stall(let bytes):
        _ = send(connection, bytes)
        return waitForClose(connection)
      }
    }
  }

  private func waitForClose(_ connection: Int32) {
    var chunk = [UInt8](repeating: 0, count: 256)
    while recv(connection, &chunk, chunk.count, 0) > 0 {}
  }

  private func send(_ connection: Int32, _ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  private func read(_ connection: Int32, _ pending: inout [UInt8]) -> Request? {
    var chunk = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      if let end = pending.indices.first(where: { pending[$0...].starts(with: "\r\n\r\n".utf8) }) {
        let lines = String(decoding: pending[..<end], as: UTF8.self).split(separator: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
          let parts = line.split(separator: ":", maxSplits: 1)
          headers[parts[0].lowercased()] = parts.count > 1 ? String(parts[1].drop { $0 == " " }) : ""
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        if pending.count >= end + 4 + length {
          let words = lines[0].split(separator: " ")
          let body = Array(pending[(end + 4)..<(end + 4 + length)])
          pending = Array(pending[(end + 4 + length)...])
          return Request(method: String(words[0]), path: String(words[1]), headers: headers, body: body)
        }
      }
      let count = recv(connection, &chunk, chunk.count, 0)
      guard count > 0 else { return nil }
      pending += chunk[..<count]
    }
  }
}

/// Runs a test's body with a server and stops it afterwards.
func withServer<Value>(
  _ handler: @escaping @Sendable (LoopbackServer.Request) -> LoopbackServer.Reply,
  _ body: (LoopbackServer) async throws -> Value
) async throws -> Value {
  let server = try LoopbackServer(handler)
  defer { server.stop() }
  return try await body(server)
}

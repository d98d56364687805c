// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCObserve
@testable import VPCRPC

/// Endpoints that start as soon as they can and leave no trace when they stop.
@Suite struct HTTPServiceTests {
  private let loopback = IPAddress(ipv4: 0x7f00_0001)
  private let folder = TemporaryFolder()

  /// What a service reported.
  private final class Reports: Sendable {
    private let list = Mutex<[String]>([])
    private let lastPort = Atomic<Int>(0)
    var all: [String] { list.withLock { $0 } }
    var port: Int { lastPort.load(ordering: .acquiring) }

    func append(_ report: HTTPService.Report) {
      switch report {
      case .failed: list.withLock { $0.append("failed") }
      case .listening(let port):
        lastPort.store(port, ordering: .releasing)
        list.withLock { $0.append("listening") }
      }
    }
  }

  private func service(_ address: ListenAddress, _ group: any EventLoopGroup, _ reports: Reports) -> HTTPService {
    var limits = HTTPEndpoint.Limits()
    limits.timeout = .seconds(60)  // many tests run at once, and none is about time
    return HTTPService(
      at: address, on: group, limits: limits, backoff: .milliseconds(1) ... .milliseconds(4),
      handler: { _ in HTTPAnswer(body: Array("{}".utf8)) }, report: { reports.append($0) })
  }

  private func running(
    _ address: ListenAddress, _ body: (Reports, Task<Void, Never>) async throws -> Void
  ) async throws {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let reports = Reports()
    let service = service(address, group, reports)
    let task = Task { await service.run() }
    do {
      try await body(reports, task)
    } catch {
      task.cancel()
      await task.value
      try await group.shutdownGracefully()
      throw error
    }
    task.cancel()
    await task.value
    try await group.shutdownGracefully()
  }

  @Test func aBusyPortIsTakenOnceItIsFree() async throws {
    let other = try await HTTPEndpoint.start(at: .tcp(host: loopback, port: 0)) { _ in HTTPAnswer(status: 404, body: [])
    }
    let port = other.port
    try await running(.tcp(host: loopback, port: port)) { reports, _ in
      #expect(await eventually { reports.all == ["failed"] })
      await other.shutdown()
      #expect(await eventually { reports.all == ["failed", "listening"] }, "told once, whatever the number of tries")
      #expect(reports.port == port)
      let answer = try await onThread { String(decoding: try tcp(port, "GET / HTTP/1.0\r\n\r\n"), as: UTF8.self) }
      #expect(answer.hasPrefix("HTTP/1.1 200") && answer.hasSuffix("{}"))
    }
  }

  @Test func allAddresses() async throws {
    try await running(.tcp(host: nil, port: 0)) { reports, _ in
      #expect(await eventually { reports.port != 0 })
      let port = reports.port
      let answer = try await onThread { try tcp(port, "GET / HTTP/1.0\r\n\r\n") }
      #expect(!answer.isEmpty, "IPv4 too")
    }
  }

  @Test func aSocketInTheFileSystem() async throws {
    let path = folder.path("introspection.sock")
    // A server that died left this socket.
    let dead = try listening(path)
    // A child that another test starts at this moment has it open too: closing alone does not end it.
    shutdown(dead.descriptor, Int32(SHUT_RDWR))
    #expect(access(path, F_OK) == 0)
    try await running(.unix(path: path)) { reports, task in
      #expect(await eventually { reports.all == ["listening"] })
      var info = stat()
      #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o660)
      let answer = try await onThread {
        let socket = try RawSocket(path)
        socket.send(Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
        return socket.drain(seconds: 60).bytes
      }
      #expect(String(decoding: answer, as: UTF8.self).hasSuffix("{}"))
      task.cancel()
      await task.value
      #expect(access(path, F_OK) != 0, "its file goes with it")
    }
  }

  /// A file that is not a dead socket is not removed.
  @Test func othersFilesStay() async throws {
    let path = try folder.write("a-file", "precious")
    try await running(.unix(path: path)) { reports, _ in
      #expect(await eventually { reports.all == ["failed"] })
    }
    #expect(try folder.text("a-file") == "precious")
    let alive = folder.path("alive.sock")
    let listener = try listening(alive)
    try await running(.unix(path: alive)) { reports, _ in
      #expect(await eventually { reports.all == ["failed"] })
    }
    #expect(access(alive, F_OK) == 0)
    withExtendedLifetime(listener) {}
  }
}

/// A server that accepts no connection. Its socket closes with the object, and the file stays.
private func listening(_ path: String) throws -> RawSocket {
  let socket = RawSocket(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
  let isBound = SocketAddress(unix: path)?.withPointer { bind(socket.descriptor, $0, $1) }
  try #require(isBound == 0 && listen(socket.descriptor, 8) == 0)
  return socket
}

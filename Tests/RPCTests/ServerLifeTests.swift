// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import VPCRPC

/// The server's socket file, and how a server ends.
@Suite struct ServerLifeTests {
  private func mode(_ path: String) -> mode_t {
    var info = stat()
    return lstat(path, &info) == 0 ? info.st_mode & 0o7777 : 0
  }

  @Test func folderAndSocketHaveTheirModes() async throws {
    let folder = TemporaryFolder()
    let path = folder.path + "/a/b/ipamd.sock"
    let server = try await RPCServer.start(path: path, methods: RPCMethodTable())
    #expect(mode(path) == 0o660)
    #expect(mode(folder.path + "/a/b") == 0o755)
    await server.shutdown()
    #expect(access(path, F_OK) != 0)
  }

  @Test func aStaleSocketIsReplacedALiveOneIsNot() async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    await #expect(throws: ListenError.self) { try await RPCServer.start(path: path, methods: RPCMethodTable()) }
    #expect(try await server.add("pod").success)
    await server.server.shutdown()

    // A server that died: the file exists, but nobody listens.
    let dead = try ListeningSocket(path: path, backlog: 1)
    // A child that another test starts at this moment has it open too: closing alone does not end it.
    shutdown(dead.descriptor, Int32(SHUT_RDWR))
    close(dead.descriptor)
    #expect(access(path, F_OK) == 0)
    let second = try await RPCServer.start(path: path, methods: RPCMethodTable())
    await second.shutdown()
  }

  @Test func whatIsNoSocketIsLeftAlone() async throws {
    let folder = TemporaryFolder()
    try folder.write("ipamd.sock", "kept")
    let path = folder.socket
    await #expect(throws: ListenError.self) { try await RPCServer.start(path: path, methods: RPCMethodTable()) }
    #expect(try folder.text("ipamd.sock") == "kept")
    let long = "/tmp/" + String(repeating: "x", count: 200)
    await #expect(throws: ListenError.self) { try await RPCServer.start(path: long, methods: RPCMethodTable()) }
  }

  @Test func shutdownLetsCallsFinish() async throws {
    let folder = TemporaryFolder()
    let (started, start) = AsyncStream.makeStream(of: Void.self)
    let (released, release) = AsyncStream.makeStream(of: Void.self)
    var methods = RPCMethodTable()
    methods.add(.addNetwork) { _, _ in
      start.yield()
      for await _ in released { break }
      return []
    }
    let server = try await RPCServer.start(path: folder.socket, methods: methods)
    let client = CNIBackendClient(target: .unix(path: folder.socket))
    async let reply = onThread { try client.addNetwork(.pod("pod"), timeout: .seconds(60)) }
    for await _ in started { break }
    async let ended: Void = server.shutdown(within: .seconds(60))
    // No new caller can connect once the file is gone.
    #expect(await eventually { access(folder.socket, F_OK) != 0 })
    release.yield()
    #expect(try await reply.success == false)
    await ended
  }

  @Test func shutdownIsBounded() async throws {
    let server = try await TestServer()
    let client = server.client
    async let error = failure { () throws(RPCError) in try client.addNetwork(.pod("slow"), timeout: .seconds(60)) }
    #expect(await eventually { server.agent.running.load(ordering: .relaxed) == 1 })
    let start = ContinuousClock.now
    await server.server.shutdown(within: .milliseconds(200))
    #expect(start.duration(to: .now) < .seconds(50))
    #expect(await error?.code == .unavailable)
    #expect(await eventually { server.agent.cancelled.load(ordering: .relaxed) == 1 })
  }

  @Test func busyConnectionsAreNeitherEvictedNorTakenForIdle() async throws {
    var limits = RPCServerLimits()
    limits.connections = 2
    let server = try await TestServer(limits: limits)
    let client = server.client
    async let slow = failure { () throws(RPCError) in try client.addNetwork(.pod("slow"), timeout: .seconds(60)) }
    #expect(await eventually { server.agent.running.load(ordering: .relaxed) == 1 })
    let path = server.folder.socket
    // Each connection evicts the previous one, but never the one with the running call.
    let idle = try await onThread {
      var sockets: [RawSocket] = []
      for _ in 0..<5 { sockets.append(try RawSocket(path)) }
      return sockets
    }
    #expect(try await onThread { idle.dropLast().map { $0.drain(seconds: 60).closed } } == [true, true, true, true])
    #expect(server.agent.running.load(ordering: .relaxed) == 1)
    await server.server.shutdown(within: .milliseconds(100))
    #expect(await slow?.code == .unavailable)
  }

  @Test func idleConnectionsAreClosedInTime() async throws {
    var limits = RPCServerLimits()
    limits.connections = 4
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let sockets = try await onThread { try (0..<6).map { _ in try RawSocket(path) } }
    let closed = try await onThread { sockets.prefix(2).map { $0.drain(seconds: 60).closed } }
    #expect(closed == [true, true])
    #expect(try await server.add("pod").success)
    await server.server.shutdown()
  }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc
import SwiftProtobuf
import Synchronization
import TestSupport
import Testing
import VPCModel

@testable import VPCRPC

private struct Breach: CustomTestStringConvertible {
  let testDescription: String
  let bytes: [UInt8]

  init(_ name: String, _ bytes: [UInt8]) {
    testDescription = name
    self.bytes = bytes
  }
}

/// Input from a peer that breaks the protocol: the server keeps serving.
@Suite struct HostileClientTests {
  private static let body = MessageFrame.encode((try? AddNetworkRequest.pod("pod").serializedBytes()) ?? [])

  private static let opening = RawFrame.preface + RawFrame.settings
  private static let headerBlock = RawFrame.block((0..<100).map { ("x-\($0)", String(repeating: "v", count: 100)) })

  private static func many(_ count: Int, _ frame: [UInt8]) -> [UInt8] {
    Array(Array(repeating: frame, count: count).joined())
  }

  private static let breaches: [Breach] = [
    Breach("garbage", Array(repeating: 0xaa, count: 4_096)),
    Breach("http/1", Array("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".utf8)),
    Breach("huge frame", RawFrame.preface + [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
    Breach("settings of odd length", RawFrame.preface + RawFrame.frame(4, [1, 2, 3])),
    Breach("data on no stream", opening + RawFrame.frame(0, stream: 0, [1])),
    Breach("window overflow", opening + many(2, RawFrame.frame(8, [0x7f, 0xff, 0xff, 0xff]))),
    Breach("broken hpack", opening + RawFrame.frame(1, flags: 4, stream: 1, [0xff, 0xff, 0xff])),
    Breach("settings flood", RawFrame.preface + many(5_000, RawFrame.settings)),
    Breach(
      "continuation flood",
      opening + RawFrame.frame(1, stream: 1, [0]) + many(5_000, RawFrame.frame(9, stream: 1, [0x40]))),
    Breach(
      "huge headers",
      opening + RawFrame.frame(1, stream: 1, headerBlock) + many(20, RawFrame.frame(9, stream: 1, headerBlock))),
  ]

  @Test(arguments: breaches)
  fileprivate func breachesCloseTheConnection(_ breach: Breach) async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    let closed = try await onThread {
      let socket = try RawSocket(path)
      // A refused send means that the connection was closed already.
      return !socket.send(breach.bytes) || socket.drain(seconds: 60).closed
    }
    #expect(closed)
    #expect(try await server.add("pod").success)
    await server.server.shutdown()
  }

  /// SETTINGS with an initial window of 0: no answer to this peer may have a body.
  private static let noWindow = RawFrame.preface + RawFrame.frame(4, [0, 4, 0, 0, 0, 0])
  private static let healthCheck = RawFrame.request(.healthCheck, body: MessageFrame.encode([]))

  @Test func aPeerThatTakesNoAnswerIsClosed() async throws {
    var limits = RPCServerLimits()
    limits.answerTimeout = .milliseconds(100)
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let closed = try await onThread {
      let socket = try RawSocket(path)
      socket.send(Self.noWindow + Self.healthCheck)
      return socket.drain(seconds: 60).closed
    }
    #expect(closed)
    #expect(try await server.add("pod").success)
    await server.server.shutdown()
  }

  /// A peer that reads every answer uses no memory of the server, but its CPU time.
  @Test(arguments: [6, 4] as [UInt8]) func aFloodIsCutOff(_ type: UInt8) async throws {
    var limits = RPCServerLimits()
    (limits.burstBytes, limits.bytesPerSecond) = (100_000, 1_000)
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let flood = Array(repeating: RawFrame.frame(type, type == 6 ? Array(repeating: 0, count: 8) : []), count: 500)
      .flatMap { $0 }
    let closed = try await onThread {
      let socket = try RawSocket(path)
      socket.send(RawFrame.preface + RawFrame.settings)
      for _ in 0..<1_000 {
        guard socket.send(flood) else { return true }
        if socket.drain(seconds: 0.01).closed { return true }
      }
      return false
    }
    #expect(closed)
    #expect(try await server.add("pod").success)
    await server.server.shutdown()
  }

  /// More connections than allowed, none of which would end by itself within the test.
  @Test(
    arguments: [
      Breach("no window", noWindow + healthCheck),
      Breach("half a request", opening + RawFrame.request(body: [0, 0], end: false)),
      Breach("half a preface", Array(RawFrame.preface.prefix(10))),
      Breach("a watch", opening + RawFrame.request(.healthWatch, body: MessageFrame.encode([]))),
      Breach("a dialogue", opening + RawFrame.request(.reflection, body: [], end: false)),
    ])
  fileprivate func peersThatWaitBlockNobody(_ breach: Breach) async throws {
    var limits = RPCServerLimits()
    limits.connections = 4
    (limits.answerTimeout, limits.requestTimeout, limits.pauseTimeout) = (.seconds(600), .seconds(600), .seconds(600))
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let sockets = try await onThread {
      try (0..<8).map { _ in
        let socket = try RawSocket(path)
        socket.send(breach.bytes)
        return socket
      }
    }
    for _ in 0..<4 { #expect(try await server.add("pod").success) }
    withExtendedLifetime(sockets) {}
    await server.server.shutdown(within: .seconds(1))
  }

  /// A stream that is reset right after its request does not affect the other streams of its connection.
  @Test(
    arguments: [
      RawFrame.request(RPCMethod(service: "no.Such", name: "Method"), body: MessageFrame.encode([])),
      RawFrame.request(.reflection, body: MessageFrame.encode(ProtobufFields.encode(7, [])), end: false),
    ])
  func aResetStreamSparesTheOthers(_ request: [UInt8]) async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    let found = try await onThread {
      let socket = try RawSocket(path)
      let reset = RawFrame.frame(3, stream: 1, [0, 0, 0, 8])
      let check = RawFrame.request(.healthCheck, stream: 3, body: MessageFrame.encode([]))
      socket.send(Self.opening + RawFrame.settingsAck + request + reset + check)
      // SERVING in a DATA frame of stream 3.
      let answer = RawFrame.frame(0, stream: 3, [0, 0, 0, 0, 2, 8, 1])
      var bytes: [UInt8] = []
      while true {
        let (piece, closed) = socket.drain(seconds: 0.05)
        bytes += piece
        if bytes.indices.contains(where: { bytes[$0...].starts(with: answer) }) { return true }
        if closed { return false }
      }
    }
    #expect(found)
    await server.server.shutdown()
  }

  /// A peer sends requests and never reads: the server stops reading from it too, which bounds what it buffers.
  @Test func aPeerThatNeverReadsIsClosed() async throws {
    var limits = RPCServerLimits()
    limits.answerTimeout = .milliseconds(100)
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let sent = try await onThread {
      let socket = try RawSocket(path)
      socket.send(Self.opening + RawFrame.settingsAck)
      // Each request is refused with headers only, which no window holds back.
      let unknown = RPCMethod(service: "no.Such", name: "Method")
      for stream in 0..<UInt32(200_000) {
        let request = RawFrame.request(unknown, stream: 2 * stream + 1, body: MessageFrame.encode([]))
        // A refused send means that the connection was closed.
        guard socket.send(request) else { return stream }
      }
      return 200_000
    }
    #expect(sent < 200_000)
    #expect(try await server.add("pod").success)
    await server.server.shutdown()
  }

  private static let halves: [Breach] = [
    Breach("half a preface", Array(RawFrame.preface.prefix(10))),
    Breach("half a frame", opening + RawFrame.request(body: body).prefix(40)),
    Breach("a request without its end", opening + RawFrame.request(body: [0, 0], end: false)),
  ]

  @Test(arguments: halves)
  fileprivate func halfRequestsAreNotWaitedForForever(_ half: Breach) async throws {
    var limits = RPCServerLimits()
    limits.requestTimeout = .milliseconds(100)
    let server = try await TestServer(limits: limits)
    let path = server.folder.socket
    let socket = try await onThread {
      let socket = try RawSocket(path)
      socket.send(half.bytes)
      return socket
    }
    #expect(try await server.add("pod").success)
    _ = socket
    await server.server.shutdown(within: .seconds(1))
  }

  /// The status that a handwritten request gets, from the answer's trailers (both literal and indexed names are read).
  @Test(
    arguments: [
      ("two messages", body + body, [], "12"),
      ("compressed", [1] + body.dropFirst(), [], "12"),
      ("a message cut short", Array(body.dropLast()), [], "13"),
      ("no message", [], [], "13"),
      ("announced huge", [0, 0xff, 0xff, 0xff, 0xff, 1], [], "8"),
      ("not protobuf", [0, 0, 0, 0, 3, 0xff, 0xff, 0xff], [], "13"),
      ("malformed timeout", body, [("grpc-timeout", "soon")], "13"),
      ("gzip", body, [("grpc-encoding", "gzip")], "12"),
      ("expired", body, [("grpc-timeout", "0n")], "4"),
    ] as [(String, [UInt8], [(String, String)], String)])
  func badRequestsGetTheirStatus(_ name: String, _ body: [UInt8], _ extra: [(String, String)], _ status: String)
    async throws
  {
    let server = try await TestServer()
    let path = server.folder.socket
    let answer = try await onThread {
      let socket = try RawSocket(path)
      socket.send(RawFrame.preface + RawFrame.settings + RawFrame.request(body: body, extra: extra))
      // Our client's decoder reads the answer.
      let exchange = try HTTP2Exchange(headers: [(":method", "POST")], body: [0], responseLimit: 1 << 20)
      _ = try exchange.takeOutput()
      while !exchange.response.isEnded {
        let (bytes, closed) = socket.drain(seconds: 0.05)
        try exchange.feed(bytes[...])
        if closed { break }
      }
      return Result { try exchange.response.message() }
    }
    #expect(throws: RPCError.self, "\(name)") { try answer.get() }
    if case .failure(let error as RPCError) = answer { #expect(String(error.code.rawValue) == status, "\(name)") }
    await server.server.shutdown()
  }

  @Test func mutatedConnectionsDoNotStopTheServer() async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    let whole =
      Self.opening + RawFrame.settingsAck + RawFrame.request(body: Self.body)
      + RawFrame.request(.healthCheck, stream: 3, body: MessageFrame.encode([]))
      + RawFrame.frame(3, stream: 3, [0, 0, 0, 8])
      + RawFrame.frame(6, [1, 2, 3, 4, 5, 6, 7, 8])
    try await onThread {
      let deadline = ContinuousClock.now.advanced(by: .seconds(1))
      for seed in 0..<3_000 where ContinuousClock.now < deadline {
        var random = SplitMix64(seed: UInt64(seed))
        let socket = try RawSocket(path)
        // Mostly mutate only what follows the preface: the server refuses everything after a damaged preface.
        let head = seed % 8 == 0 ? 0 : RawFrame.preface.count
        socket.send(Array(whole[..<head]) + random.mutate(Array(whole[head...])))
      }
    }
    #expect(try await server.add("pod").success)
    await server.server.shutdown(within: .seconds(2))
  }

  @Test func idleConnectionsDoNotStopTheServer() async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    let sockets = try await onThread {
      try (0..<1_000).map { index in
        let socket = try RawSocket(path)
        if index % 2 == 0 { socket.send(RawFrame.preface + RawFrame.settings) }
        return socket
      }
    }
    let start = ContinuousClock.now
    #expect(try await server.add("pod").success)
    #expect(start.duration(to: .now) < .seconds(50))
    #expect(sockets.count == 1_000)
    await server.server.shutdown(within: .seconds(2))
  }

  @Test func aCallerThatGoesAwayCancelsItsHandler() async throws {
    let server = try await TestServer()
    let path = server.folder.socket
    for reset in [true, false] {
      let before = server.agent.cancelled.load(ordering: .relaxed)
      let socket = try await onThread {
        let socket = try RawSocket(path)
        let slow = MessageFrame.encode((try? AddNetworkRequest.pod("slow").serializedBytes()) ?? [])
        socket.send(RawFrame.preface + RawFrame.settings + RawFrame.request(body: slow))
        return socket
      }
      #expect(await eventually { server.agent.running.load(ordering: .relaxed) == 1 })
      if reset { socket.send(RawFrame.frame(3, stream: 1, [0, 0, 0, 8])) } else { shutdown(socket.descriptor, 2) }
      #expect(await eventually { server.agent.cancelled.load(ordering: .relaxed) == before + 1 })
      #expect(await eventually { server.agent.running.load(ordering: .relaxed) == 0 })
    }
    await server.server.shutdown()
  }
}

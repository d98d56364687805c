// SPDX-License-Identifier: Apache-2.0

import Glibc
import SwiftProtobuf
import Synchronization
import TestSupport
import Testing
import VPCModel

@testable import VPCRPC

/// A server that sends the bytes it is told to without reading the request, then closes.
private final class ScriptedServer: Sendable {
  let folder = TemporaryFolder()
  private let listener: ListeningSocket

  init() throws { listener = try ListeningSocket(path: folder.socket, backlog: 64) }

  deinit { close(listener.descriptor) }

  var client: CNIBackendClient { CNIBackendClient(target: .unix(path: folder.socket)) }

  /// Makes one call to the server.
  func call(
    answering bytes: [UInt8], closing: Bool = true, timeout: Duration = .seconds(60)
  ) throws(RPCError) -> AddNetworkReply {
    let accepted = Mutex<RawSocket?>(nil)
    let descriptor = listener.descriptor
    TestThread.start {
      var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&entry, 1, 60_000) > 0 else { return }
      let socket = RawSocket(owning: accept(descriptor, nil, nil))
      socket.send(bytes)
      if closing { shutdown(socket.descriptor, 1) }
      accepted.withLock { $0 = socket }
      // Stay open until the client is gone, and read what it sent, so that closing does not reset the connection.
      _ = socket.drain(seconds: 60)
    }
    return try client.addNetwork(.pod("pod"), timeout: timeout)
  }
}

/// Answers to the plugin from an agent that breaks the protocol: the plugin gets an error, in time.
@Suite struct HostileServerTests {
  private static let reply = makeReply()

  private static func makeReply() -> [UInt8] {
    var reply = AddNetworkReply()
    reply.success = true
    reply.vpcv4Cidrs = ["10.0.0.0/16"]
    let bytes: [UInt8]? = try? reply.serializedBytes()
    return MessageFrame.encode(bytes ?? [])
  }

  @Test func theAnswerItselfIsTaken() async throws {
    let server = try ScriptedServer()
    let reply = try await onThread { try server.call(answering: RawFrame.answer(body: Self.reply)) }
    #expect(reply.vpcv4Cidrs == ["10.0.0.0/16"])
  }

  private static func head(_ headers: [(String, String)], flags: UInt8) -> [UInt8] {
    RawFrame.settings + RawFrame.frame(1, flags: flags, stream: 1, RawFrame.block(headers))
  }

  @Test(
    arguments: [
      ("nothing", [], .unavailable),
      ("garbage", Array(repeating: 0xaa, count: 1_000), .internal),
      ("http/1", Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8), .internal),
      ("cut after the headers", Array(RawFrame.answer(body: reply).prefix(60)), .unavailable),
      ("refused", RawFrame.settings + RawFrame.frame(3, stream: 1, [0, 0, 0, 7]), .unavailable),
      ("cancelled", RawFrame.settings + RawFrame.frame(3, stream: 1, [0, 0, 0, 8]), .cancelled),
      ("enhance your calm", RawFrame.settings + RawFrame.frame(3, stream: 1, [0, 0, 0, 11]), .resourceExhausted),
      ("going away", RawFrame.settings + RawFrame.frame(7, [0, 0, 0, 0, 0, 0, 0, 0]), .unavailable),
      ("503", head([(":status", "503"), ("content-type", "text/html")], flags: 5), .unavailable),
      ("401", head([(":status", "401")], flags: 5), .unauthenticated),
      ("200 but html", head([(":status", "200"), ("content-type", "text/html")], flags: 5), .unknown),
      ("status beyond the table", RawFrame.answer(body: reply, status: "99"), .unknown),
      ("no message", RawFrame.answer(body: []), .internal),
      ("half a message", RawFrame.answer(body: Array(reply.dropLast())), .internal),
      ("two messages", RawFrame.answer(body: reply + reply), .unimplemented),
      ("announced huge", RawFrame.answer(body: [0, 0xff, 0xff, 0xff, 0xff]), .resourceExhausted),
      ("compressed", RawFrame.answer(body: [1] + reply.dropFirst()), .unimplemented),
      ("not protobuf", RawFrame.answer(body: [0, 0, 0, 0, 2, 0xff, 0xff]), .internal),
    ] as [(String, [UInt8], RPCCode)])
  func brokenAnswersAreErrors(_ name: String, _ bytes: [UInt8], _ code: RPCCode) async throws {
    let server = try ScriptedServer()
    let start = ContinuousClock.now
    let error = await failure { () throws(RPCError) in try server.call(answering: bytes) }
    #expect(error?.code == code, "\(name)")
    #expect(error?.isConnectFailure == false)
    #expect(start.duration(to: .now) < .seconds(50), "\(name)")
  }

  @Test func aStreamOfFramesWithoutEndIsBounded() async throws {
    let server = try ScriptedServer()
    var pings = RawFrame.frame(6, [0, 0, 0, 0, 0, 0, 0, 0])
    while pings.count < 8 << 20 { pings += pings }
    let error = await failure { [pings] () throws(RPCError) in
      try server.call(answering: RawFrame.settings + pings, closing: false)
    }
    #expect(error != nil)
  }

  @Test func mutatedAnswersNeverCrashOrHang() async throws {
    let server = try ScriptedServer()
    let whole = RawFrame.answer(body: Self.reply, status: "0", message: "100%25 %E2%82%AC")
    try await onThread {
      let deadline = ContinuousClock.now.advanced(by: .seconds(1))
      for seed in 0..<2_000 where ContinuousClock.now < deadline {
        var random = SplitMix64(seed: UInt64(seed))
        _ = try? server.call(answering: random.mutate(whole), timeout: .seconds(1))
      }
    }
    let reply = try await onThread { try server.call(answering: whole) }
    #expect(reply.success)
  }
}

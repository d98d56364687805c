// SPDX-License-Identifier: Apache-2.0

import SwiftProtobuf
import Testing
import VPCModel

@testable import VPCRPC

@Suite struct WireTests {
  @Test func mutatedMessagesNeverCrash() async throws {
    var request = AddNetworkRequest.pod("pod", "namespace")
    request.netns = "/proc/1/ns/net"
    request.containerID = String(repeating: "c", count: 64)
    var reply = AddNetworkReply()
    reply.success = true
    reply.ipallocationMetadata = [IPAllocationMetadata(), IPAllocationMetadata()]
    reply.vpcv4Cidrs = ["10.0.0.0/16", "10.1.0.0/16"]
    reply.podRouteTable = 20_512
    let requestBytes: [UInt8] = try request.serializedBytes()
    let replyBytes: [UInt8] = try reply.serializedBytes()
    try await onThread {
      let deadline = ContinuousClock.now.advanced(by: .seconds(1))
      for seed in 0..<20_000 where ContinuousClock.now < deadline {
        var random = SplitMix64(seed: UInt64(seed))
        _ = try? AddNetworkRequest(serializedBytes: random.mutate(requestBytes), options: MessageDecoding.options)
        _ = try? AddNetworkReply(serializedBytes: random.mutate(replyBytes), options: MessageDecoding.options)
      }
    }
  }

  @Test func readerTakesAnyPiecesAndBoundsThem() throws {
    let message = (0..<2_000).map { UInt8($0 & 0xff) }
    let frame = MessageFrame.encode(message)
    for seed in 0..<200 {
      var random = SplitMix64(seed: UInt64(seed))
      var reader = UnaryMessageReader(limit: 2_000)
      var rest = frame[...]
      while !rest.isEmpty {
        let piece = Array(rest.prefix(Int.random(in: 1...700, using: &random)))
        rest = rest.dropFirst(piece.count)
        try reader.append(piece)
        #expect(reader.isComplete == rest.isEmpty)
      }
      #expect(reader.message == message)
    }
  }

  @Test(arguments: [
    (Duration.nanoseconds(5), "5n"), (.milliseconds(50), "50000000n"), (.seconds(1), "1000000u"),
    (.seconds(30), "30000000u"), (.seconds(240), "240000m"), (.seconds(200_000), "200001S"), (.zero, "1n"),
    (.seconds(-5), "1n"), (.seconds(1_000_000_000), "99999999S"),
  ])
  func timeoutsAreWritten(_ duration: Duration, _ text: String) {
    #expect(TimeoutHeader.encode(duration) == text)
  }

  @Test(
    arguments: [
      ("5n", Duration.nanoseconds(5)), ("100m", .milliseconds(100)), ("2S", .seconds(2)), ("3M", .seconds(180)),
      ("1H", .seconds(3_600)), ("99999999H", .seconds(359_999_996_400)), ("", nil), ("5", nil), ("n", nil),
      ("-5n", nil), ("123456789n", nil), ("1x", nil), ("1 S", nil),
    ] as [(String, Duration?)])
  func timeoutsAreRead(_ text: String, _ duration: Duration?) {
    #expect(TimeoutHeader.decode(text) == duration)
  }

  @Test(arguments: ["", "plain", "100%", "é€😀", "a\nb\0c", "%41"])
  func statusMessagesComeBack(_ text: String) {
    let encoded = StatusMessage.encode(text)
    #expect(encoded.utf8.allSatisfy { (0x20...0x7e).contains($0) })
    #expect(StatusMessage.decode(Array(encoded.utf8)) == text)
  }

  @Test func brokenStatusMessagesStayReadable() {
    #expect(StatusMessage.decode(Array("50% of %zz%4".utf8)) == "50% of %zz%4")
    #expect(StatusMessage.decode([0x25, 0x46, 0x46]) == "\u{fffd}")
    #expect(StatusMessage.decode(Array(repeating: 0x61, count: 100_000)).utf8.count == StatusMessage.limit)
  }

  @Test(
    arguments: [
      ("unix:///run/x.sock", RPCTarget.unix(path: "/run/x.sock")), ("unix:/run/x.sock", .unix(path: "/run/x.sock")),
      ("unix:x.sock", .unix(path: "x.sock")), ("unix://x.sock", nil), ("unix:", nil), ("", nil), ("host", nil),
      ("127.0.0.1:50051", .tcp(host: "127.0.0.1", port: 50_051)), (":50051", .tcp(host: "localhost", port: 50_051)),
      ("[::1]:80", .tcp(host: "::1", port: 80)), ("::1:80", nil), ("dns:///node:1", .tcp(host: "node", port: 1)),
      ("h:0", nil), ("h:65536", nil), ("h:-1", nil), ("http://h:80", nil),
    ] as [(String, RPCTarget?)])
  func targetsAreRead(_ text: String, _ target: RPCTarget?) {
    #expect(RPCTarget(text) == target)
  }
}

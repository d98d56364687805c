// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOEmbedded
import SwiftProtobuf
import VPCModel

@testable import VPCRPC

/// HTTP/2 and the messages in it.
enum WireTargets {
  /// One connection to the agent's server, starting with the client's preface, in an event loop that this function
  /// drives. The first byte selects the size of the pieces in which the rest arrives.
  @Sendable static func server(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let loop = EmbeddedEventLoop()
    let channel = EmbeddedChannel(loop: loop)
    var methods = RPCMethodTable()
    let agent = FuzzAgent()
    methods.add(agent as any CNIBackendService)
    methods.add(agent as any ConfigServerBackendService)
    methods.add(HealthStatus(.serving))
    methods.addReflection()
    let state = ServerState(methods: methods, limits: RPCServerLimits(), on: loop)
    do {
      try RPCServer.configure(channel, state)
      try channel.connect(to: SocketAddress(unixDomainSocketPath: "/fuzz")).wait()
    } catch {
      preconditionFailure("\(error)")
    }
    let size = first == 0 ? bytes.count : Int(first)
    var rest = bytes.dropFirst()
    while !rest.isEmpty, channel.isActive {
      _ = try? channel.writeInbound(ByteBuffer(bytes: rest.prefix(size)))
      rest = rest.dropFirst(size)
      loop.run()
      drain(channel)
    }
    // The server's time limits have all passed after this.
    loop.advanceTime(by: .seconds(600))
    drain(channel)
    _ = try? channel.finish(acceptAlreadyClosed: true)
    loop.run()
    require(state.calls == 0 && state.openStreams == 0 && state.buffered == 0, "a closed connection holds nothing")
  }

  private static func drain(_ channel: EmbeddedChannel) {
    while (try? channel.readOutbound(as: ByteBuffer.self)) != nil {}
  }

  /// The agent's answer to the plugin. The first byte selects the size of the pieces.
  @Sendable static func client(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let headers = [
      (":method", "POST"), (":scheme", "http"), (":path", RPCMethod.addNetwork.path), (":authority", "localhost"),
      ("content-type", "application/grpc"), ("te", "trailers"),
    ]
    do {
      let exchange = try HTTP2Exchange(
        headers: headers, body: MessageFrame.encode([10, 1, 65]), responseLimit: 1 << 16)
      _ = try exchange.takeOutput()
      let size = first == 0 ? bytes.count : Int(first)
      var rest = bytes.dropFirst()
      while !rest.isEmpty, !exchange.response.isEnded {
        try exchange.feed(rest.prefix(size))
        _ = try exchange.takeOutput()
        rest = rest.dropFirst(size)
      }
      let message = try exchange.response.message()
      _ = try AddNetworkReply(serializedBytes: message, options: MessageDecoding.options)
    } catch {
      // An error is a valid answer too.
    }
  }

  private static let reflection = Reflection(services: ["rpc.CNIBackend", "grpc.health.v1.Health"])

  @Sendable static func protobuf(_ bytes: [UInt8]) {
    let options = MessageDecoding.options
    roundTrip(try? AddNetworkRequest(serializedBytes: bytes, options: options))
    roundTrip(try? AddNetworkReply(serializedBytes: bytes, options: options))
    roundTrip(try? DelNetworkRequest(serializedBytes: bytes, options: options))
    roundTrip(try? DelNetworkReply(serializedBytes: bytes, options: options))
    roundTrip(try? HealthCheckRequest(serializedBytes: bytes, options: options))
    _ = try? reflection.answer(bytes)
    var reader = UnaryMessageReader(limit: 1 << 16)
    _ = try? reader.append(bytes)
    _ = StatusMessage.decode(bytes)
    _ = TimeoutHeader.decode(String(decoding: bytes, as: UTF8.self))
  }

  private static func roundTrip<Message: SwiftProtobuf.Message & Equatable>(_ message: Message?) {
    guard let message else { return }
    let bytes: [UInt8]? = try? message.serializedBytes()
    guard let bytes else { preconditionFailure("a decoded message can be encoded") }
    require((try? Message(serializedBytes: bytes, options: MessageDecoding.options)) == message)
  }
}

/// Answers at once.
private final class FuzzAgent: CNIBackendService, ConfigServerBackendService {
  func addNetwork(_ request: AddNetworkRequest, context: RPCContext) async throws -> AddNetworkReply {
    var reply = AddNetworkReply()
    reply.success = true
    reply.networkPolicyMode = request.k8SPodName
    return reply
  }

  func delNetwork(_ request: DelNetworkRequest, context: RPCContext) async throws -> DelNetworkReply {
    throw RPCStatus(.notFound, request.k8SPodName)
  }

  func networkPolicyConfigs(context: RPCContext) async throws -> NetworkPolicyAgentConfigReply {
    NetworkPolicyAgentConfigReply()
  }
}

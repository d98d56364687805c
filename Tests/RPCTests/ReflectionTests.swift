// SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import VPCModel

@testable import VPCRPC

/// What clients such as grpcurl ask for first. `InteropTests` uses an independent client.
@Suite struct ReflectionTests {
  private let reflection = Reflection(services: ["rpc.CNIBackend", "grpc.health.v1.Health"])

  private func ask(_ field: Int, _ text: String) throws -> ProtobufFields {
    let answer = try reflection.answer(ProtobufFields.encode(1, "host".utf8) + ProtobufFields.encode(field, text.utf8))
    let fields = try #require(ProtobufFields(answer))
    #expect(fields.text(1) == "host")
    #expect(fields.all(2).first.flatMap { ProtobufFields($0) }?.text(field) == text, "the question comes back")
    return fields
  }

  private func files(_ answer: ProtobufFields) throws -> [String] {
    let list = try #require(ProtobufFields(answer.all(4).first ?? []))
    return list.all(1).map { ProtobufFields($0)?.text(1) ?? "" }
  }

  @Test func servicesAreListed() throws {
    let list = try #require(ProtobufFields(try ask(7, "").all(6).first ?? []))
    #expect(list.all(1).map { ProtobufFields($0)?.text(1) } == ["rpc.CNIBackend", "grpc.health.v1.Health"])
  }

  @Test(
    arguments: [
      ("rpc.CNIBackend", "rpc.proto"), ("rpc.CNIBackend.AddNetwork", "rpc.proto"),
      ("rpc.AddNetworkRequest", "rpc.proto"), ("grpc.health.v1.Health", "health.proto"),
      ("grpc.health.v1.HealthCheckResponse.ServingStatus", "health.proto"),
      ("grpc.reflection.v1.ServerReflection", "reflection.proto"),
      ("grpc.reflection.v1alpha.ServerReflection", "reflection_v1alpha.proto"),
      ("google.protobuf.Empty", "google/protobuf/empty.proto"),
    ])
  func symbolsLeadToTheirFiles(_ symbol: String, _ file: String) throws {
    let found = try files(try ask(4, symbol))
    #expect(found.first == file)
    #expect(found.count == (file == "rpc.proto" ? 2 : 1), "with what it imports")
    #expect(try files(try ask(3, file)) == found)
  }

  @Test(arguments: [(3, "none.proto"), (4, "rpc.None"), (6, "rpc.None"), (4, "")])
  func whatIsNotThereIsNotFound(_ field: Int, _ name: String) throws {
    let error = try #require(ProtobufFields(try ask(field, name).all(7).first ?? []))
    guard case .number(let code)? = error.fields.first?.value else { throw RPCStatus(.internal, "no code") }
    #expect(code == 5 && error.text(2).hasSuffix("not found"))
  }

  @Test func messagesHaveNoExtensions() throws {
    let numbers = try #require(ProtobufFields(try ask(6, "rpc.AddNetworkRequest").all(5).first ?? []))
    #expect(numbers.text(1) == "rpc.AddNetworkRequest" && numbers.fields.count == 1)
  }

  @Test func othersAreRefused() throws {
    for bytes in [[], [0xff], ProtobufFields.encode(9, "x".utf8), ProtobufFields.encode(7, 1), [0x22, 0xff, 0x01]] {
      #expect(throws: RPCStatus.self) { try reflection.answer(bytes) }
    }
    var random = SplitMix64(seed: 20_512)
    let whole = ProtobufFields.encode(1, "host".utf8) + ProtobufFields.encode(4, "rpc.CNIBackend".utf8)
    for _ in 0..<20_000 { _ = try? reflection.answer(random.mutate(whole)) }
  }

  /// A file declares every served method, so that a client that finds its service also finds its messages.
  @Test func everyServedMethodIsDeclared() throws {
    for method in [
      RPCMethod.addNetwork, .delNetwork, .networkPolicyConfigs, .healthCheck, .healthWatch, .reflection,
      .reflectionAlpha,
    ] {
      #expect(try files(try ask(4, "\(method.service).\(method.name)")).count >= 1, "\(method)")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import HealthMode
@testable import VPCObserve
@testable import VPCRPC

/// A Python that has grpcio and grpcio-tools.
let python = getenv("VPC_CNI_TEST_PYTHON").map { String(cString: $0) }

/// Both directions against grpcio, an independent implementation.
@Suite(.enabled(if: python != nil || TestNeeds.mustRun, "VPC_CNI_TEST_PYTHON names no Python with grpcio"))
struct InteropTests {
  @Test func grpcioCallsOurServer() async throws {
    let server = try await TestServer()
    let socket = server.folder.socket
    let output = try await onThread { try peer("client.py", socket).rest() }
    let results = try #require(try foreignJSON(output) as? [String: Any])
    func code(_ name: String) -> String? { (results[name] as? [String: Any])?["code"] as? String }
    func reply(_ name: String) -> Any? { (results[name] as? [String: Any])?["reply"] }

    #expect((reply("add") as? [String: Any])?["addresses"] as? [String] == ["10.0.0.0"])
    #expect((reply("add") as? [String: Any])?["table"] as? Int == 20_512)
    #expect((reply("none") as? [String: Any])?["cause"] as? String == "subnet full")
    #expect(code("status") == "FAILED_PRECONDITION")
    #expect((results["status"] as? [String: Any])?["details"] as? String == "wrong client version \"é\" 100%")
    #expect(code("throw") == "UNKNOWN")
    #expect((results["throw"] as? [String: Any])?["details"] as? String == "datastore: unknown pod")
    #expect(code("deadline") == "DEADLINE_EXCEEDED")
    #expect(reply("big") as? Int == 20_000)
    #expect(code("toobig") == "RESOURCE_EXHAUSTED")
    #expect(code("gzip") == "UNIMPLEMENTED")
    #expect(reply("del") as? String == "uid")
    #expect(reply("config") as? String == "standard")
    let health = (results["health"] as? [[String: Any]])?.map { $0["code"] as? String }
    #expect(health == ["OK", "OK", "NOT_FOUND"])
    #expect(reply("watch") as? Int == 1)
    #expect(code("unimplemented") == "UNIMPLEMENTED")
    #expect(results["concurrent"] as? [String] == ["OK"])
    #expect(results["before"] as? String == "OK" && results["after"] as? String == "OK")
    // The call that passed its deadline and the call that its caller cancelled.
    #expect(await eventually { server.agent.cancelled.load(ordering: .relaxed) == 2 })
    await server.server.shutdown()
  }

  /// Uses reflection as `grpcurl list`, `describe` and a call without .proto files do.
  @Test func grpcsOwnClientLearnsTheServicesByReflection() async throws {
    let server = try await TestServer()
    let socket = server.folder.socket
    let output = try await onThread { try peer("reflect.py", socket).rest() }
    let results = try #require(try foreignJSON(output) as? [String: Any])
    let services = [
      "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection",
      "rpc.CNIBackend", "rpc.ConfigServerBackend",
    ]
    #expect(results["services"] as? [String] == services)
    #expect(results["v1"] as? [String] == services)
    let methods = results["methods"] as? [String: [String]]
    #expect(methods?["rpc.CNIBackend"] == ["AddNetwork", "DelNetwork"])
    #expect(methods?["grpc.health.v1.Health"] == ["Check", "Watch"])
    #expect((results["check"] as? [String: Any])?["status"] as? String == "SERVING")
    #expect((results["add"] as? [String: Any])?["PodRouteTable"] as? Int == 20_512)
    #expect(results["unknown"] as? String == "KeyError")
    #expect(results["files"] as? [String] == ["rpc.proto", "google/protobuf/empty.proto"])
    #expect(results["error"] as? Int == 5 && results["echo"] as? Bool == true)
    #expect(results["many"] as? Int == 1_000)
    await server.server.shutdown()
  }

  @Test func grpcioWatchesOurHealth() async throws {
    let server = try await TestServer()
    let socket = server.folder.socket
    let names = ["", HealthStatus.agentService, "nobody"]
    let watches = try await onThread { try names.map { try peer("watch.py", socket, $0) } }
    defer { for watch in watches { watch.end() } }
    func lines() async throws -> [String?] { try await onThread { try watches.map { try $0.line() } } }
    #expect(try await lines() == ["SERVING", "SERVING", "SERVICE_UNKNOWN"])
    server.health.set(.notServing)
    #expect(try await onThread { try watches.prefix(2).map { try $0.line() } } == ["NOT_SERVING", "NOT_SERVING"])
    server.health.set(.notServing)
    server.health.set(.serving)
    #expect(try await onThread { try watches.prefix(2).map { try $0.line() } } == ["SERVING", "SERVING"])
    // The watches do not delay the end of the server.
    let began = ContinuousClock.now
    await server.server.shutdown(within: .seconds(50))
    #expect(began.duration(to: .now) < .seconds(50))
    #expect(try await lines() == ["UNAVAILABLE", "UNAVAILABLE", "UNAVAILABLE"])
  }

  @Test func ourClientCallsGrpcio() async throws {
    let folder = TemporaryFolder()
    let server = try await onThread { [socket = folder.socket] in
      let server = try peer("server.py", socket)
      try #require(try server.line() == "ready")
      return server
    }
    defer { server.end() }
    let client = CNIBackendClient(target: .unix(path: folder.socket))

    let reply = try await onThread { try client.addNetwork(.pod("pod", "ns"), timeout: .seconds(60)) }
    #expect(reply.success && reply.podRouteTable == 20_512 && reply.networkPolicyMode == "ns")
    #expect(reply.ipallocationMetadata.map(\.ipv4Addr) == ["10.0.0.1"])
    let left = try await onThread { try client.addNetwork(.pod("deadline"), timeout: .seconds(60)).podRouteTable }
    #expect((10_000...60_000).contains(left))
    let big = try await onThread {
      try client.addNetwork(.pod("big-50000", String(repeating: "n", count: 700_000)), timeout: .seconds(60))
    }
    #expect(big.ipallocationMetadata.count == 50_000)

    for code in RPCCode.allCases where code != .ok {
      let error = await failure { () throws(RPCError) in
        try client.addNetwork(.pod("status-\(code.rawValue)", "text \"é\" 100%"), timeout: .seconds(60))
      }
      #expect(error?.status == RPCStatus(code, "text \"é\" 100%"))
    }
    let late = await failure { () throws(RPCError) in
      try client.addNetwork(.pod("slow"), timeout: .milliseconds(200))
    }
    #expect(late?.code == .deadlineExceeded)
    let unknown = await failure { () throws(RPCError) in
      try client.delNetwork(DelNetworkRequest(), timeout: .seconds(60))
    }
    #expect(unknown?.code == .unimplemented)
    try await probe(folder)
  }

  private func probe(_ folder: TemporaryFolder) async throws {
    for (service, status, text) in [
      ("", 0, "status: SERVING"), ("down", 4, "service unhealthy (responded with \\\"NOT_SERVING\\\")"),
      ("other", 3, "error: health rpc failed: rpc error: code = NotFound desc = unknown service"),
    ] {
      let log = folder.path("health-\(status).log")
      let socket = folder.socket
      let result = try await onThread {
        HealthMode.run(
          arguments: ["-addr=unix://\(socket)", "--service", service, "-rpc-timeout=60s"],
          log: LineWriter(.file(path: log)))
      }
      #expect(result == status)
      #expect(try folder.text("health-\(status).log").contains("\"msg\":\"\(text)\""))
    }
  }
}

/// Starts a Python program of the Peers folder.
func peer(_ script: String, _ arguments: String...) throws -> PeerProcess {
  let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
  let program = try #require(python, "VPC_CNI_TEST_PYTHON is not set")
  return try PeerProcess([program, "-B", "/\(folder)/Peers/\(script)"] + arguments)
}

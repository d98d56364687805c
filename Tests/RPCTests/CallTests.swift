// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import VPCRPC

/// Our client against our server: nghttp2 on one side, SwiftNIO on the other.
@Suite struct CallTests {
  @Test func everyMethodAnswers() async throws {
    let server = try await TestServer()
    let reply = try await server.add("pod")
    #expect(reply.success)
    #expect(reply.podRouteTable == 20_512)
    #expect(reply.ipallocationMetadata.map(\.ipv4Addr) == ["10.0.0.0"])

    let client = server.client
    let deleted = try await onThread {
      var request = DelNetworkRequest()
      request.k8SPodUid = "uid"
      return try client.delNetwork(request, timeout: .seconds(60))
    }
    #expect(deleted.success && deleted.networkPolicyMode == "uid")

    let health = HealthClient(target: server.target)
    #expect(try await onThread { try health.check(timeout: .seconds(60)) } == .serving)
    let agent = HealthStatus.agentService
    #expect(try await onThread { try health.check(service: agent, timeout: .seconds(60)) } == .serving)
    server.health.set(.notServing)
    #expect(try await onThread { try health.check(timeout: .seconds(60)) } == .notServing)
    let unknown = await failure { () throws(RPCError) in try health.check(service: "other", timeout: .seconds(60)) }
    #expect(unknown?.code == .notFound && unknown?.stage == .answer)

    let unary = client.client
    let policy = try await onThread {
      try unary.call(
        .networkPolicyConfigs, AddNetworkRequest(), reply: NetworkPolicyAgentConfigReply.self, timeout: .seconds(60))
    }
    #expect(policy.networkPolicyMode == "standard")
    #expect(policy.region == String(getpid()))
    await server.server.shutdown()
  }

  /// The caller's work during the call runs once, and not at all if the server cannot be reached.
  @Test func meanwhileRunsOnce() async throws {
    let server = try await TestServer()
    let client = server.client
    let count = try await onThread {
      var count = 0
      _ = try client.addNetwork(.pod("pod"), timeout: .seconds(60)) { count += 1 }
      return count
    }
    #expect(count == 1)
    let nobody = CNIBackendClient(target: .unix(path: "/nonexistent/socket"))
    let never = try await onThread {
      var count = 0
      _ = try? nobody.addNetwork(.pod("pod"), timeout: .seconds(60)) { count += 1 }
      return count
    }
    #expect(never == 0)
    await server.server.shutdown()
  }

  @Test(arguments: RPCCode.allCases.filter { $0 != .ok })
  func statusAndMessageComeThrough(_ code: RPCCode) async throws {
    let server = try await TestServer()
    let client = server.client
    let text = "wrong client version \"é\" 100% \n€"
    let error = await failure { () throws(RPCError) in
      try client.addNetwork(.pod("status-\(code.rawValue)", text), timeout: .seconds(60))
    }
    #expect(error?.status == RPCStatus(code, text))
    #expect(error?.stage == .answer)
    #expect(error?.isConnectFailure == false)
    await server.server.shutdown()
  }

  @Test func otherErrorsAreUnknownWithTheirText() async throws {
    let server = try await TestServer()
    let client = server.client
    let error = await failure { () throws(RPCError) in try client.addNetwork(.pod("throw"), timeout: .seconds(60)) }
    #expect(error?.status == RPCStatus(.unknown, "datastore: unknown pod"))
    #expect(error?.description.hasSuffix("rpc error: code = Unknown desc = datastore: unknown pod") == true)
    await server.server.shutdown()
  }

  @Test func unknownMethodsAreUnimplemented() async throws {
    let server = try await TestServer()
    let client = server.client.client
    for (service, name, text) in [
      ("rpc.CNIBackend", "Nothing", "unknown method Nothing for service rpc.CNIBackend"),
      ("rpc.Nothing", "AddNetwork", "unknown service rpc.Nothing"),
      ("a/b/c", "d", "unknown service a"),
    ] {
      let error = await failure { () throws(RPCError) in
        try client.call(RPCMethod(service: service, name: name), request: [], timeout: .seconds(60))
      }
      #expect(error?.status == RPCStatus(.unimplemented, text))
    }
    await server.server.shutdown()
  }

  @Test func largeMessagesBothWays() async throws {
    let server = try await TestServer()
    let reply = try await server.add("big-60000", namespace: String(repeating: "n", count: 900_000))
    #expect(reply.ipallocationMetadata.count == 60_000)
    await server.server.shutdown()
  }

  @Test func sizesAreBounded() async throws {
    let server = try await TestServer()
    var client = server.client
    let long = String(repeating: "n", count: 1_100_000)
    let refused = await failure { [client] () throws(RPCError) in
      try client.addNetwork(.pod("pod", long), timeout: .seconds(60))
    }
    #expect(refused?.code == .resourceExhausted && refused?.stage == .request)

    client.client.requestLimit = 10_000_000
    let answered = await failure { [client] () throws(RPCError) in
      try client.addNetwork(.pod("pod", long), timeout: .seconds(60))
    }
    #expect(answered?.code == .resourceExhausted && answered?.stage == .answer)

    client.client.responseLimit = 1_000
    let tooLarge = await failure { [client] () throws(RPCError) in
      try client.addNetwork(.pod("big-1000"), timeout: .seconds(60))
    }
    #expect(tooLarge?.code == .resourceExhausted && tooLarge?.stage == .exchange)
    await server.server.shutdown()
  }

  @Test func manyCallsAtOnce() async throws {
    let server = try await TestServer()
    try await withThrowingTaskGroup(of: Bool.self) { group in
      for index in 0..<200 {
        group.addTask { try await server.add("pod-\(index)", timeout: .seconds(60)).success }
      }
      for try await success in group { #expect(success) }
    }
    await server.server.shutdown()
  }
}

@Suite struct DeadlineTests {
  @Test func serverAnswersAtTheDeadlineAndCancelsTheHandler() async throws {
    let server = try await TestServer()
    let client = server.client
    let start = ContinuousClock.now
    let error = await failure { () throws(RPCError) in
      try client.addNetwork(.pod("slow"), timeout: .seconds(2))
    }
    #expect(error?.code == .deadlineExceeded)
    #expect(start.duration(to: .now) < .seconds(50))
    #expect(await eventually { server.agent.cancelled.load(ordering: .relaxed) == 1 })
    await server.server.shutdown()
  }

  @Test func serverLimitsCallersWithoutADeadline() async throws {
    var limits = RPCServerLimits()
    limits.callTimeout = .milliseconds(100)
    let server = try await TestServer(limits: limits)
    let client = server.client
    let error = await failure { () throws(RPCError) in try client.addNetwork(.pod("slow"), timeout: .seconds(60)) }
    #expect(error?.code == .deadlineExceeded && error?.stage == .answer)
    await server.server.shutdown()
  }

  @Test func silentServerEndsAtTheClientsDeadline() async throws {
    let folder = TemporaryFolder()
    let socket = try ListeningSocket(path: folder.socket, backlog: 4)
    defer { close(socket.descriptor) }
    let client = CNIBackendClient(target: .unix(path: folder.socket))
    let start = ContinuousClock.now
    let error = await failure { () throws(RPCError) in
      try client.addNetwork(.pod("pod"), timeout: .milliseconds(150))
    }
    #expect(error?.code == .deadlineExceeded && error?.stage == .exchange)
    #expect(start.duration(to: .now) < .seconds(50))
  }

  @Test func fullBacklogIsAConnectFailureInTime() async throws {
    let folder = TemporaryFolder()
    let socket = try ListeningSocket(path: folder.socket, backlog: 0)
    defer { close(socket.descriptor) }
    let client = CNIBackendClient(target: .unix(path: folder.socket))
    // The first call fills the backlog (it connects and is never accepted).
    for _ in 0..<3 {
      let start = ContinuousClock.now
      let error = await failure { () throws(RPCError) in
        try client.client.call(.addNetwork, request: [], timeout: .seconds(1), connectTimeout: .milliseconds(100))
      }
      #expect(error?.code == .deadlineExceeded || error?.isConnectFailure == true)
      #expect(start.duration(to: .now) < .seconds(50))
    }
  }

  @Test func absentServerIsAConnectFailure() async throws {
    let folder = TemporaryFolder()
    let client = CNIBackendClient(target: .unix(path: folder.socket))
    let error = await failure { () throws(RPCError) in try client.addNetwork(.pod("pod"), timeout: .seconds(1)) }
    #expect(error?.isConnectFailure == true && error?.code == .unavailable)
    #expect((error?.cause).map(String.init(describing:)) == "connect: no such file or directory")
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport

@testable import VPCRPC

/// Runs blocking work on a thread of its own, so that tests never block the pool that their server needs.
func onThread<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await TestThread.run(work)
}

/// The error that blocking work ended with; nil if it did not fail.
func failure<Value: Sendable>(_ work: @escaping @Sendable () throws(RPCError) -> Value) async -> RPCError? {
  do {
    _ = try await onThread(work)
    return nil
  } catch {
    return error as? RPCError
  }
}

extension TemporaryFolder {
  var socket: String { path("ipamd.sock") }
}

/// Returns only by throwing, once its task is cancelled.
func untilCancelled() async throws {
  let (never, end) = AsyncStream.makeStream(of: Void.self)
  for await _ in never {}
  withExtendedLifetime(end) {}
  try Task.checkCancellation()
}

/// An agent whose answer depends on the request.
final class EchoAgent: CNIBackendService, ConfigServerBackendService {
  /// The number of running handlers.
  let running = Atomic<Int>(0)
  /// The number of handlers whose task was cancelled while they ran.
  let cancelled = Atomic<Int>(0)

  /// The pod's name selects the answer: `slow` waits until it is cancelled, `status-N` fails with that code, `none` has
  /// no address, `throw` throws an error that is not a status, `big-N` answers with N addresses.
  func addNetwork(_ request: AddNetworkRequest, context: RPCContext) async throws -> AddNetworkReply {
    running.wrappingAdd(1, ordering: .relaxed)
    defer { running.wrappingSubtract(1, ordering: .relaxed) }
    var reply = AddNetworkReply()
    let name = request.k8SPodName
    if name == "slow" {
      do {
        try await untilCancelled()
      } catch {
        cancelled.wrappingAdd(1, ordering: .relaxed)
        throw error
      }
    }
    if name == "throw" { throw UnknownPod() }
    if name.hasPrefix("status-"), let code = Int(name.dropFirst(7)).flatMap(RPCCode.init) {
      throw RPCStatus(code, request.k8SPodNamespace)
    }
    let count = name.hasPrefix("big-") ? Int(name.dropFirst(4)) ?? 1 : 1
    reply.success = name != "none"
    reply.failureCause = name == "none" ? "subnet full" : ""
    reply.podRouteTable = 20_512
    reply.ipallocationMetadata = (0..<count).map { index in
      var address = IPAllocationMetadata()
      address.ipv4Addr = "10.0.\(index / 256 % 256).\(index % 256)"
      address.deviceNumber = 1
      address.routeTableID = 2
      return address
    }
    reply.networkPolicyMode = request.netns
    return reply
  }

  func delNetwork(_ request: DelNetworkRequest, context: RPCContext) async throws -> DelNetworkReply {
    var reply = DelNetworkReply()
    reply.success = true
    reply.networkPolicyMode = request.k8SPodUid
    return reply
  }

  func networkPolicyConfigs(context: RPCContext) async throws -> NetworkPolicyAgentConfigReply {
    var reply = NetworkPolicyAgentConfigReply()
    reply.networkPolicyMode = "standard"
    reply.region = String(context.peer?.processID ?? 0)
    return reply
  }
}

private struct UnknownPod: Error, CustomStringConvertible {
  var description: String { "datastore: unknown pod" }
}

/// A running server with an `EchoAgent` behind it.
struct TestServer {
  let folder = TemporaryFolder()
  let agent = EchoAgent()
  let health = HealthStatus(.serving)
  let server: RPCServer

  init(limits: RPCServerLimits = RPCServerLimits()) async throws {
    var methods = RPCMethodTable()
    methods.add(agent as any CNIBackendService)
    methods.add(agent as any ConfigServerBackendService)
    methods.add(health)
    methods.addReflection()
    server = try await RPCServer.start(path: folder.socket, methods: methods, limits: limits)
  }

  var target: RPCTarget { .unix(path: folder.socket) }
  var client: CNIBackendClient { CNIBackendClient(target: target) }

  func add(_ pod: String, namespace: String = "", timeout: Duration = .seconds(60)) async throws -> AddNetworkReply {
    let client = client
    return try await onThread { try client.addNetwork(.pod(pod, namespace), timeout: timeout) }
  }
}

extension AddNetworkRequest {
  static func pod(_ name: String, _ namespace: String = "") -> AddNetworkRequest {
    var request = AddNetworkRequest()
    request.k8SPodName = name
    request.k8SPodNamespace = namespace
    return request
  }
}

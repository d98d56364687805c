// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCLinux
import VPCModel
import VPCObserve

@testable import AgentMode
@testable import VPCRPC

/// What goes over the socket: replies, texts that other programs look for, and what is removed after the answer.
@Suite struct CNIBackendTests {
  let fixture: PoolFixture
  let enis: FakeENIs
  let backend: CNIBackend
  let removed = Told<HostRemains>()
  let settled = Told<IPAddress>()

  final class Told<Value: Sendable>: Sendable {
    private let list = Mutex<[Value]>([])
    var all: [Value] { list.withLock { $0 } }
    func append(_ value: Value) { list.withLock { $0.append(value) } }
  }

  init() async throws {
    enis = FakeENIs(addresses: 2)
    fixture = try PoolFixture(enis)
    let (removed, settled) = (removed, settled)
    let cidr = try #require(IPPrefix("10.0.0.0/16"))
    backend = CNIBackend(
      pool: fixture.pool,
      facts: CNIBackend.Facts(
        usesExternalSNAT: true, vpcCIDRs: { [cidr] }, networkPolicyMode: "standard",
        podRouteTable: .pods, addTimeout: .seconds(20)),
      removeSoon: { removed.append($0) }, removalSettled: { settled.append($0) })
  }

  func context(_ allowed: Duration = .seconds(30)) -> RPCContext {
    RPCContext(method: .addNetwork, deadline: ContinuousClock.now.advanced(by: allowed), peer: nil)
  }

  func request(_ container: String, pod: String = "web-0", version: String = "") -> AddNetworkRequest {
    var request = AddNetworkRequest()
    request.clientVersion = version
    request.networkName = "aws-cni"
    request.containerID = container
    request.ifName = "eth0"
    request.k8SPodName = pod
    request.k8SPodNamespace = pod.isEmpty ? "" : "default"
    return request
  }

  func deletion(_ container: String, pod: String = "web-0", version: String = "") -> DelNetworkRequest {
    var request = DelNetworkRequest()
    request.clientVersion = version
    request.networkName = "aws-cni"
    request.containerID = container
    request.ifName = "eth0"
    request.k8SPodName = pod
    request.k8SPodNamespace = pod.isEmpty ? "" : "default"
    return request
  }

  @Test func replies() async throws {
    _ = await fixture.started()
    let reply = try await backend.addNetwork(request("c1"), context: context())
    let metadata = try #require(reply.ipallocationMetadata.first)
    #expect(reply.success && reply.ipallocationMetadata.count == 1 && reply.failureCause.isEmpty)
    #expect(reply.useExternalSnat && reply.vpcv4Cidrs == ["10.0.0.0/16"] && reply.networkPolicyMode == "standard")
    #expect(reply.podRouteTable == 20512 && metadata.routeTableID == 254 && metadata.deviceNumber == 0)
    #expect(metadata.ipv6Addr.isEmpty)
    let deleted = try await backend.delNetwork(deletion("c1"), context: context())
    #expect(deleted.success && deleted.hostVethRemoved && deleted.ipallocationMetadata == [metadata])
    #expect(deleted.networkPolicyMode == "standard")
    #expect(settled.all.map(\.description) == [metadata.ipv4Addr], "asked for before the answer")
    let remains = try #require(removed.all.first)
    #expect(remains.address.description == metadata.ipv4Addr && remains.deletesVeth && remains.eniTable == .main)
    #expect(remains.vethSuffix == HostVethName.suffix(namespace: "default", pod: "web-0"))
  }

  @Test func tableOfASecondENI() async throws {
    _ = await fixture.started()
    var tables: Set<Int32> = []
    for number in 0..<8 {
      let reply = try await backend.addNetwork(request("c\(number)", pod: "pod-\(number)"), context: context())
      for metadata in reply.ipallocationMetadata {
        #expect(metadata.routeTableID == (metadata.deviceNumber == 0 ? 254 : metadata.deviceNumber + 1))
        tables.insert(metadata.routeTableID)
      }
    }
    #expect(tables == [254, 2])
  }

  /// A plugin was killed right after its request. Whoever killed it may already have sent its DEL, and then nobody
  /// would give the address back.
  @Test func callThatIsOverBeforeItBeginsTakesNothing() async throws {
    _ = await fixture.started()
    let gate = AsyncStream<Never>.makeStream()
    let call = Task { [backend, request = request("c1"), context = context()] in
      for await _ in gate.stream {}  // ends when the task is cancelled
      return try await backend.addNetwork(request, context: context)
    }
    call.cancel()
    await #expect(throws: CancellationError.self) { _ = try await call.value }
    #expect(await fixture.pool.counts.assigned == 0)
  }

  @Test func otherVersionIsRefused() async throws {
    _ = await fixture.started()
    let expected = RPCStatus(.failedPrecondition, #"wrong client version "v1.23.1" (!= "")"#)
    await #expect(throws: expected) {
      try await backend.addNetwork(request("c1", version: "v1.23.1"), context: context())
    }
    await #expect(throws: expected) {
      try await backend.delNetwork(deletion("c1", version: "v1.23.1"), context: context())
    }
    let long = await #expect(throws: RPCStatus.self) {
      try await backend.addNetwork(request("c1", version: String(repeating: "v", count: 100_000)), context: context())
    }
    #expect((long?.message.count ?? 0) < 200)
    #expect(fixture.written == [:])
    let counted = backend.metrics.registry.text().split(separator: "\n")
    #expect(counted.contains("awscni_add_ip_req_count 2"), "refused, and counted all the same")
    #expect(counted.contains(#"awscni_del_ip_req_count{reason="other"} 1"#))
  }

  @Test func unknownPodOnDelete() async throws {
    _ = await fixture.started()
    for pod in ["web-0", ""] {
      await #expect(throws: RPCStatus(.unknown, "datastore: unknown pod")) {
        try await backend.delNetwork(deletion("none", pod: pod), context: context())
      }
    }
    #expect(removed.all == [])
  }

  @Test func emptyPartsOfTheKey() async throws {
    _ = await fixture.started()
    for change in [\AddNetworkRequest.networkName, \.containerID, \.ifName] {
      var request = request("c1")
      request[keyPath: change] = ""
      let reply = try await backend.addNetwork(request, context: context())
      #expect(!reply.success && reply.ipallocationMetadata.isEmpty && reply.failureCause.contains("must not be empty"))
    }
  }

  @Test func beforeTheStart() async throws {
    let reply = try await backend.addNetwork(request("c1"), context: context())
    #expect(!reply.success && reply.failureCause.hasPrefix("the agent is not ready"))
  }

  /// The cause must still reach a caller whose deadline ends the wait.
  @Test func answersBeforeTheCallersDeadline() async throws {
    enis.hold(.assign)
    enis.hold(.attach)
    _ = await fixture.started()
    for number in 0..<2 { _ = await fixture.add("first-\(number)") }
    let context = context(.milliseconds(600))
    let reply = try await backend.addNetwork(request("c1"), context: context)
    // The pool guarantees that the answer comes before the deadline itself; PoolWaiterTests check this in virtual time.
    #expect(!reply.success && reply.failureCause.hasPrefix("no address within"))
    let late = try await backend.addNetwork(request("c2"), context: self.context(.milliseconds(-5)))
    #expect(!late.success, "a deadline that is over is not waited for")
    enis.letGo(.assign)
    enis.letGo(.attach)
  }

  // MARK: pods that the checkpoint did not name

  @Test func recoveredPodIsReleased() async throws {
    let suffix = HostVethName.suffix(namespace: "default", pod: "web-0")
    let address = try #require(enis.addresses.min())
    let entry = CheckpointAllocation(
      key: .recovered(vethSuffix: suffix), address: address, unixNanoseconds: 1, pod: PodName(namespace: "", name: ""))
    _ = await fixture.started(Checkpoint(allocations: [entry]))
    await #expect(throws: RPCStatus(.unknown, "datastore: unknown pod")) {
      try await backend.delNetwork(deletion("c9", pod: "web-1"), context: context())
    }
    let reply = try await backend.delNetwork(deletion("c1"), context: context())
    #expect(reply.success && reply.ipallocationMetadata.map(\.ipv4Addr) == [address.description])
    #expect(
      removed.all == [HostRemains(address: address, vethSuffix: suffix, eniTable: .main, deletesVeth: true)])
    #expect(fixture.written == [:])
    await #expect(throws: RPCStatus(.unknown, "datastore: unknown pod")) {
      try await backend.delNetwork(deletion("c1"), context: context())
    }
  }

  /// amazon-vpc-cni-k8s took these over from the container runtime and did not know their names.
  @Test func migratedPodIsReleased() async throws {
    let address = try #require(enis.addresses.min())
    let entry = CheckpointAllocation(
      key: .migrated(containerID: "c1"), address: address, unixNanoseconds: 1, pod: PodName(namespace: "", name: ""))
    _ = await fixture.started(Checkpoint(allocations: [entry]))
    let reply = try await backend.delNetwork(deletion("c1"), context: context())
    #expect(reply.success)
    #expect(removed.all.map(\.vethSuffix) == [HostVethName.suffix(namespace: "default", pod: "web-0")])
  }
}

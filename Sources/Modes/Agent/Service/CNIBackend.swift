// SPDX-License-Identifier: Apache-2.0
//
// The plugin's requests to the agent. Source: contract of amazon-vpc-cni-k8s v1.23, gRPC contract and server behaviour.

internal import VPCLinux
internal import VPCModel
internal import VPCRPC

/// Answers AddNetwork and DelNetwork from the pool.
struct CNIBackend: CNIBackendService {
  /// Fields of every reply, for all pods.
  struct Facts: Sendable {
    var usesExternalSNAT: Bool
    /// The VPC's CIDRs of the pods' family now: some are added while the node runs.
    var vpcCIDRs: @Sendable () -> [IPPrefix]
    /// NETWORK_POLICY_ENFORCING_MODE; empty if no policy agent is to be called.
    var networkPolicyMode: String
    /// The table for pods' host routes; nil with the contract's per-pod rules.
    var podRouteTable: RouteTable?
    /// VPC_CNI_ADD_TIMEOUT: an ADD waits at most this long, whatever its caller allows.
    var addTimeout: Duration
  }

  /// The version that a plugin must send. Released images of amazon-vpc-cni-k8s have an empty one on both sides.
  static let version = ""

  /// Subtracted from the caller's deadline, so that the cause still reaches the caller.
  private static let answerMargin = Duration.milliseconds(250)

  let pool: AddressPool
  let facts: Facts
  var metrics = AgentMetrics()
  /// Notified after the pool, before the answer.
  var observer = PodObserver()
  /// Removes a pod's host side without being waited for.
  let removeSoon: @Sendable (HostRemains) -> Void
  /// Returns when no removal for an earlier pod of the address is in progress.
  let removalSettled: @Sendable (IPAddress) async -> Void

  func addNetwork(_ request: AddNetworkRequest, context: RPCContext) async throws -> AddNetworkReply {
    metrics.addAsked()
    try checkVersion(request.clientVersion)
    let key = AttachmentKey(
      networkName: request.networkName, containerID: request.containerID, ifName: request.ifName)
    let pod = PodName(namespace: request.k8SPodNamespace, name: request.k8SPodName)
    // The caller is gone, and may have sent its DEL already: nobody would release the address.
    try Task.checkCancellation()
    let asked = ContinuousClock.now
    let answer = await pool.add(key: key, pod: pod, deadline: deadline(context))
    metrics.addAnswered(answer, after: asked.duration(to: .now))
    var reply = AddNetworkReply()
    switch answer {
    case .assigned(let assignment):
      await removalSettled(assignment.address)
      observer.assigned(pod, assignment.address)
      reply.success = true
      reply.ipallocationMetadata = [CNIBackend.allocation(assignment)]
      reply.useExternalSnat = facts.usesExternalSNAT
      let cidrs = facts.vpcCIDRs().map(\.description)
      switch assignment.address.family {
      case .ipv4: reply.vpcv4Cidrs = cidrs
      case .ipv6: reply.vpcv6Cidrs = cidrs
      }
      reply.networkPolicyMode = facts.networkPolicyMode
      reply.podRouteTable = facts.podRouteTable?.number ?? 0
    case .failed(let cause):
      observer.failed(cause)
      reply.success = false
      reply.failureCause = "\(cause)"
    }
    return reply
  }

  func delNetwork(_ request: DelNetworkRequest, context: RPCContext) async throws -> DelNetworkReply {
    metrics.deleteAsked(reason: request.reason)
    try checkVersion(request.clientVersion)
    let key = AttachmentKey(
      networkName: request.networkName, containerID: request.containerID, ifName: request.ifName)
    let asked = PodName(namespace: request.k8SPodNamespace, name: request.k8SPodName)
    guard let assignment = await release(key, of: asked) else {
      // The text that plugins match.
      throw RPCStatus(.unknown, "datastore: unknown pod")
    }
    // An address from a damaged or very old checkpoint has no pod name.
    let pod = assignment.pod.isComplete ? assignment.pod : asked
    observer.released(pod, assignment.address)
    // After the answer: deleting a veth takes the kernel 8 to 20 ms.
    removeSoon(
      HostRemains(
        address: assignment.address, vethSuffix: HostVethName.suffix(namespace: pod.namespace, pod: pod.name),
        eniTable: assignment.routeTable, deletesVeth: true))
    var reply = DelNetworkReply()
    reply.success = true
    reply.ipallocationMetadata = [CNIBackend.allocation(assignment)]
    reply.networkPolicyMode = facts.networkPolicyMode
    reply.hostVethRemoved = true
    return reply
  }

  /// Releases the address by its key, or else by the key of a pod that only the kernel knew after a damaged checkpoint:
  /// there only the veth's name identifies the pod.
  private func release(_ key: AttachmentKey, of pod: PodName) async -> Assignment? {
    if case .released(let assignment) = await pool.delete(key) { return assignment }
    guard pod.isComplete else { return nil }
    let suffix = HostVethName.suffix(namespace: pod.namespace, pod: pod.name)
    guard case .released(let assignment) = await pool.delete(.recovered(vethSuffix: suffix)) else { return nil }
    return assignment
  }

  private func checkVersion(_ version: String) throws {
    guard version == CNIBackend.version else {
      throw RPCStatus(
        .failedPrecondition, "wrong client version \"\(version.prefix(64))\" (!= \"\(CNIBackend.version)\")")
    }
  }

  private func deadline(_ context: RPCContext) -> PoolInstant {
    let allowed = ContinuousClock.now.duration(to: context.deadline) - CNIBackend.answerMargin
    return PoolClock.now().instant + max(.zero, min(allowed, facts.addTimeout))
  }

  private static func allocation(_ assignment: Assignment) -> IPAllocationMetadata {
    var metadata = IPAllocationMetadata()
    switch assignment.address.family {
    case .ipv4: metadata.ipv4Addr = assignment.address.description
    case .ipv6: metadata.ipv6Addr = assignment.address.description
    }
    metadata.deviceNumber = Int32(clamping: assignment.device)
    metadata.routeTableID = Int32(clamping: assignment.routeTable.number)
    return metadata
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The agent's counters. Two kinds of numbers:
//
//   counted as it happens   ADDs and DELs, actions of the pool, EC2 requests; a dictionary look-up under a lock each
//   read at a scrape        everything that the pool knows anyway: one snapshot, AgentMetrics+Collect.swift

internal import Synchronization
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCObserve

/// The agent's series and the events that they count. Labels have bounded values: codes and names, never messages.
final class AgentMetrics: Sendable {
  let registry = MetricRegistry()
  let instruments: AgentInstruments
  let process: ProcessMetrics
  /// The first success counts even if nothing had to be written.
  private let hasConnmark = Atomic(false)
  /// ENIs that this agent attached and has not been able to use yet.
  private let attachedAt = Mutex<[ENIID: ContinuousClock.Instant]>([:])
  /// Read at a scrape.
  let droppedLogLines: @Sendable () -> Int

  init(droppedLogLines: @escaping @Sendable () -> Int = { 0 }) {
    self.droppedLogLines = droppedLogLines
    instruments = AgentInstruments(in: registry)
    process = ProcessMetrics(in: registry)
    for result in ["success", "error"] { instruments.connmarkReconciled.set(total: 0, result) }
    for name in [ActionName.start, ActionName.grow, ActionName.shrink, ActionName.reconcile] {
      instruments.actionsUnderWay.set(0, name)
    }
  }

  /// Values of `fn` of awscni_ipamd_action_inprogress.
  enum ActionName {
    static let start = "nodeInit"
    static let grow = "increaseDatastorePool"
    static let shrink = "decreaseDatastorePool"
    static let reconcile = "nodeIPPoolReconcile"
  }

  // MARK: ADD and DEL

  func addAsked() { instruments.addRequests.increment() }

  /// - Parameter waited: from the call to its answer.
  func addAnswered(_ answer: AddAnswer, after waited: Duration) {
    switch answer {
    case .assigned:
      instruments.addWait.observe(waited.inSeconds, "true")
    case .failed(let cause):
      instruments.addWait.observe(waited.inSeconds, "false")
      instruments.addFailures.increment(cause.label)
      if cause.isLackOfAddresses { instruments.assignmentFailures.increment() }
    }
  }

  /// - Parameter reason: of the request: one of the plugin's two; anything else counts as `other`.
  func deleteAsked(reason: String) {
    let isKnown = reason == "PodDeleted" || reason == "SetupNSFailed"
    instruments.deleteRequests.increment(isKnown ? reason : "other")
  }

  /// An address of a pod whose DEL never came was freed.
  func addressReclaimed() { instruments.reclaimedAddresses.increment() }

  // MARK: the pool's actions

  func began(_ action: PoolAction) {
    guard let name = action.metricName else { return }
    instruments.actionsUnderWay.add(1, name)
  }

  func ended(_ action: PoolAction, _ result: ActionResult) {
    guard let name = action.metricName else { return }
    instruments.actionsUnderWay.add(-1, name)
    let isFailed = if case .failed = result { true } else { false }
    if isFailed, let fn = action.failureName { instruments.errors.increment(fn) }
    noteAttachment(action, result)
  }

  /// amazon-vpc-cni-k8s's name for the wait until an ENI that was just attached can be used: once for each of them,
  /// with the labels of a successful call; a failed try counts separately. ENIs attached earlier, or set up again, do
  /// not count.
  private func noteAttachment(_ action: PoolAction, _ result: ActionResult) {
    let now = ContinuousClock.now
    switch (action, result) {
    case (.attachENI, .attached(let eni)): attachedAt.withLock { $0[eni.id] = now }
    case (.freeENI(_, let eni), _): attachedAt.withLock { $0[eni] = nil }
    case (.wireENI(_, let eni), .failed):
      guard let began = attachedAt.withLock({ $0[eni.id] }) else { return }
      let waited = began.duration(to: now).inSeconds * 1_000
      instruments.callLatency.observe(waited, "waitForENIAndIPsAttached", "true", "")
    case (.wireENI(_, let eni), _):
      guard let began = attachedAt.withLock({ $0.removeValue(forKey: eni.id) }) else { return }
      let waited = began.duration(to: now).inSeconds * 1_000
      instruments.callLatency.observe(waited, "waitForENIAndIPsAttached", "false", "200")
    default: break
    }
  }

  func checkpointFailed() { instruments.errors.increment("checkpointWriteFailed") }

  /// Changes of the pool by an EC2 listing.
  func reconciled(_ before: [ENISnapshot], _ after: [ENISnapshot]) {
    let change = ENIChange(before, after)
    let counts = [
      ("eniReconcileAdd", change.addedENIs), ("eniReconcileDel", change.removedENIs),
      ("eniIPPoolReconcileDel", change.removedCIDRs), ("eniDataStorePoolReconcileAdd", change.addedCIDRs),
    ]
    for (fn, count) in counts where count > 0 { instruments.reconciled.increment(by: Double(count), fn) }
  }

  // MARK: repair of the node's network

  func repaired(_ kind: RepairKind) { instruments.nodeRepairs.increment(kind.rawValue) }
  func repaired(after notice: Duration) { instruments.nodeRepairDuration.observe(notice.inSeconds) }
  func repairFailed() { instruments.nodeRepairFailures.increment() }
  func repairsHeld(_ count: Int) { instruments.nodeRepairsHeld.set(Double(count)) }

  // MARK: AWS

  /// One request to EC2, an attempt that is repeated counted each time. For `EC2Client`'s observer.
  func ec2(_ call: EC2Client.Observation) {
    let error = call.error.map { code in
      EC2Error(action: call.action, code: code, status: call.status)
    }
    instruments.callLatency.observe(
      call.duration.inSeconds * 1_000, call.action, "\(error != nil)", call.status.map { "\($0)" } ?? "")
    instruments.ec2Requests.increment(call.action)
    guard let error else { return }
    instruments.ec2Errors.increment(call.action)
    instruments.callErrors.increment(call.action, AgentMetrics.code(error.code.text))
    if error.isThrottling { instruments.throttledCalls.increment(call.action) }
  }

  /// A failed read of IMDS.
  func metadataFailed(_ function: String, _ error: any Error) {
    instruments.utilityErrors.increment(function, (error as? IMDSError)?.code.label ?? "other")
  }

  /// EC2's error codes are words; anything else comes from a proxy.
  private static func code(_ text: String) -> String {
    let isWord = text.utf8.allSatisfy { 48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || $0 == UInt8(ascii: ".") }
    return isWord && (1...64).contains(text.utf8.count) ? text : "other"
  }

  // MARK: the agent's start

  func initializationBegan() { instruments.actionsUnderWay.set(1, ActionName.start) }

  func initializationEnded(isSuccess: Bool, after duration: Duration) {
    instruments.actionsUnderWay.set(0, ActionName.start)
    instruments.initializationDuration.observe(duration.inSeconds, "\(isSuccess)")
  }

  /// The agent serves. This release talks to no API server.
  /// - Parameter knowsNode: the Node object was read by then.
  func started(version: String, knowsNode: Bool, after duration: Duration) {
    instruments.startDuration.observe(duration.inSeconds, "true", "\(knowsNode)", "")
    instruments.build.set(1, version, "")
  }

  /// SNAT and marks were checked, and written if missing.
  func firewallApplied(_ report: FirewallReport) {
    instruments.firewallBackend.replaceAll([[report.backend.rawValue]: 1])
    instruments.firewallInPlace.set(report.failures.isEmpty ? 1 : 0)
    let dropping = report.droppingForward.map { ([$0.chain], 1.0) }
    instruments.forwardDropped.replaceAll(Dictionary(dropping, uniquingKeysWith: { first, _ in first }))
    instruments.connmarkBackend.replaceAll(report.connmark.map { [[$0]: 1] } ?? [:])
    if !report.failures.isEmpty {
      instruments.connmarkReconciled.increment("error")
    } else if report.connmark != nil {
      // The first application counts even if all rules were in place from the previous run.
      let isFirst = !hasConnmark.exchange(true, ordering: .relaxed)
      if isFirst || !report.changes.isEmpty { instruments.connmarkReconciled.increment("success") }
    }
  }
}

extension PoolAction {
  /// The contract's name of an action in progress; nil for actions that complete at once.
  fileprivate var metricName: String? {
    switch self {
    case .attachENI, .assign, .wireENI: AgentMetrics.ActionName.grow
    case .unassign, .freeENI: AgentMetrics.ActionName.shrink
    case .listENIs: AgentMetrics.ActionName.reconcile
    case .persist, .answerAdd, .answerDelete, .wake: nil
    }
  }

  /// The contract's name of a failed action.
  fileprivate var failureName: String? {
    switch self {
    case .attachENI: "increaseIPPoolAllocENI"
    case .assign: "increaseIPPoolAllocIPAddressesFailed"
    case .wireENI: "increaseIPPoolsetupENIFailed"
    case .unassign: "decreaseIPPool"
    case .freeENI: "decreaseIPPoolFreeENIFailed"
    case .listENIs: "reconcileFailedGetENIs"
    case .persist, .answerAdd, .answerDelete, .wake: nil
    }
  }
}

extension FailureCause {
  /// Whether the pool had no address, unlike a cancelled or invalid request, or an agent that is not serving.
  fileprivate var isLackOfAddresses: Bool {
    switch self {
    case .notReady, .shuttingDown, .cancelled, .badRequest, .tooManyWaiting, .checkpointNotWritten: false
    default: true
    }
  }
}

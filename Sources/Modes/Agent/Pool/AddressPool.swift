// SPDX-License-Identifier: Apache-2.0
//
// The shell around the `Pool` value: feeds it events, runs its actions concurrently, and feeds back their results. It
// decides nothing. See also: Sources/Core/Model/Pool/Pool.swift.
//
// One batch of actions is carried out in this order, without a suspension in between:
//
//   persist ──ok──▶ answers ──▶ actions started ──▶ wake set
//      └──failed──▶ answers of DELs and failed ADDs; the assigned ADDs are withheld and
//                   named in `checkpointFailed`, whose batch answers them; nothing is unassigned
//
// An action that changes addresses goes to EC2, then to the kernel, then back to the pool:
//
//   assign, unassign   EC2 ──▶ `carriedOut` ──▶ converge to `wantedENIs` ──▶ `ended`
//   setup              converge, which verifies ──▶ `ended`
//   free               converge, without the ENI ──▶ EC2 ──▶ `ended`

internal import Logging
internal import VPCModel
internal import VPCSystem

/// The node's address pool: answers ADD and DEL, writes the checkpoint, runs growth and shrinking.
actor AddressPool {
  /// Writing the checkpoint blocks (a synced write to tmpfs: 0.01 ms), so the actor has its own thread.
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private(set) var pool: Pool
  private let operations: any ENIOperations
  private let checkpoint: CheckpointFile
  private var document = CheckpointDocument()
  let time: @Sendable () -> PoolTime
  private let logger: Logger
  private let metrics: AgentMetrics?

  private var lastWaiter: UInt64 = 0
  private var adds: [WaiterID: WaitingAdd] = [:]
  private var deletes: [WaiterID: CheckedContinuation<DeleteAnswer, Never>] = [:]
  /// One task per action in progress, so that shutdown can cancel them.
  private var running: [ActionID: Task<Void, Never>] = [:]
  private var wake: (at: PoolInstant, task: Task<Void, Never>)?
  /// Rung once, when the pool has its first address.
  private let filled = Bell()
  private var isFilled = false
  /// The shutdown's continuation, which waits for the last action.
  private var ended: CheckedContinuation<Void, Never>?

  init(
    pool: Pool, operations: any ENIOperations, checkpoint: CheckpointFile, logger: Logger,
    metrics: AgentMetrics? = nil, time: @escaping @Sendable () -> PoolTime = PoolClock.now
  ) throws {
    executor = try ThreadExecutor(name: "pool")
    self.pool = pool
    self.operations = operations
    self.checkpoint = checkpoint
    self.logger = logger
    self.metrics = metrics
    self.time = time
  }

  // MARK: what the service asks

  /// Assigns an address to an attachment; the same attachment gets the same address again.
  ///
  /// - Parameter deadline: when the caller stops waiting.
  /// - Returns: the assignment, written to the checkpoint, or the failure cause.
  func add(key: AttachmentKey, pod: PodName, deadline: PoolInstant, interfaces: Int = 1) async -> AddAnswer {
    let waiter = nextWaiter()
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        adds[waiter] = WaitingAdd(key: key, pod: pod, continuation: continuation)
        let request = AddRequest(waiter: waiter, key: key, pod: pod, deadline: deadline, interfacesCount: interfaces)
        feed(.add(request))
        if Task.isCancelled { feed(.addCancelled(waiter)) }
      }
    } onCancel: {
      // The caller went away; the pool answers the waiter, which resumes the suspended call.
      Task { await self.cancel(waiter) }
    }
  }

  /// Releases an attachment's address.
  func delete(_ key: AttachmentKey) async -> DeleteAnswer {
    let waiter = nextWaiter()
    return await withCheckedContinuation { continuation in
      deletes[waiter] = continuation
      feed(.delete(key, waiter))
    }
  }

  /// Reclaims the address of a pod that is gone without a DEL.
  ///
  /// - Parameter quiet: nothing is released if an ADD of the attachment was answered within this time, or if the
  ///   attachment has another address by now.
  /// - Returns: the released assignment; nil for none.
  func reclaim(_ assignment: Assignment, quiet: Duration) async -> Assignment? {
    guard pool.isQuiet(assignment, for: quiet, now: time().instant) else { return nil }
    guard case .released(let released) = await delete(assignment.key) else { return nil }
    return released
  }

  // MARK: what the agent tells

  /// Starts with the attached ENIs and living pods, and writes the checkpoint: entries that the restoration dropped
  /// must not come back at the next start.
  func start(_ start: PoolStart) {
    feed(.started(start))
    _ = persist()
  }

  /// Feeds events that are neither requests nor results of actions.
  func tell(_ event: PoolEvent) { feed(event) }

  /// Stops growth, answers all waiters, and waits for the actions in progress. Those not finished within the limit are
  /// cancelled and abandoned: not every kernel wait can be interrupted.
  func shutDown(within limit: Duration) async {
    feed(.shutdown)
    wake?.task.cancel()
    guard !running.isEmpty else { return }
    let watchdog = Task {
      do {
        try await Task.sleep(for: limit)
      } catch {
        return  // everything has ended
      }
      self.giveUp()
    }
    await withCheckedContinuation { ended = $0 }
    watchdog.cancel()
  }

  private func giveUp() {
    logger.warning("shutdown timed out with EC2 calls still in flight", metadata: ["count": "\(running.count)"])
    for task in running.values { task.cancel() }
    ended?.resume()
    ended = nil
  }

  /// Waits until the pool has addresses for pods. For one caller, once.
  ///
  /// - Returns: false when the task was cancelled.
  nonisolated func awaitAddresses() async -> Bool { await filled.wait() }

  /// Counts, for log and status.
  var counts: PoolCounts { pool.counts }

  // MARK: events in, actions out

  private func nextWaiter() -> WaiterID {
    lastWaiter += 1
    return WaiterID(lastWaiter)
  }

  private func cancel(_ waiter: WaiterID) { feed(.addCancelled(waiter)) }

  private func feed(_ event: PoolEvent) {
    // Listings are rare: their changes are counted by comparing snapshots.
    let before = metrics != nil && event.bringsListing ? pool.enis : nil
    defer { if let before { metrics?.reconciled(before, pool.enis) } }
    var next = [event]
    // A failed checkpoint write causes further events, whose batches hold no new assignment.
    while !next.isEmpty {
      next += carryOut(pool.handle(next.removeFirst(), now: time()))
    }
    if !isFilled, pool.counts.total > 0 {
      isFilled = true
      filled.ring()
    }
  }

  /// - Returns: the events that follow at once.
  private func carryOut(_ actions: [PoolAction]) -> [PoolEvent] {
    let failure = actions.contains(.persist) ? persist() : nil
    var withheld: [UnsentAnswer] = []
    var refused: [PoolEvent] = []
    // Logged after all answers are sent: callers do not wait for the log.
    var told: [PoolAnswer] = []
    for action in actions {
      switch action {
      case .persist: break
      case .answerAdd(let waiter, .assigned(let assignment)) where failure != nil && assignment.isNew:
        withheld.append(UnsentAnswer(waiter: waiter, assignment: assignment))
      case .answerAdd(let waiter, let answer):
        guard let add = adds.removeValue(forKey: waiter) else { continue }
        add.continuation.resume(returning: answer)
        told.append(.add(add.key, add.pod, answer))
      case .answerDelete(let waiter, let answer):
        deletes.removeValue(forKey: waiter)?.resume(returning: answer)
        told.append(.delete(answer))
      case .wake(let instant): setWake(instant)
      case .unassign(let id, _, _), .freeENI(let id, _):
        guard let failure else {
          start(action)
          continue
        }
        // A later agent would not know that EC2 may remove it at any moment.
        let fault = ActionFailure.Fault.other("cannot write the checkpoint, so nothing is unassigned: \(failure)")
        refused.append(.ended(id, .failed(ActionFailure(fault))))
      default: start(action)
      }
    }
    for answer in told { answer.log(to: logger) }
    guard let failure, !withheld.isEmpty else { return refused }
    return [.checkpointFailed(withheld, reason: failure)] + refused
  }

  /// - Returns: why the checkpoint could not be written; nil on success.
  private func persist() -> String? {
    do {
      pool.update(&document)
      let now = time()
      try checkpoint.write(
        &document, cooldowns: pool.cooldowns(now: now), returns: pool.returns(now: now), time: now)
      return nil
    } catch {
      let reason = CauseChain.text(error)
      metrics?.checkpointFailed()
      logger.error("cannot write the checkpoint; assigning no new addresses", metadata: ["error": "\(reason)"])
      return reason
    }
  }

  private func start(_ action: PoolAction) {
    guard let id = action.id else { return }
    logger.debug("pool action started", metadata: ["action": "\(action)"])
    metrics?.began(action)
    running[id] = Task {
      let result = await self.perform(action)
      self.metrics?.ended(action, result)
      self.end(id, action, result)
    }
  }

  private func end(_ id: ActionID, _ action: PoolAction, _ result: ActionResult) {
    running[id] = nil
    if case .failed(let failure) = result {
      logger.warning("pool action failed", metadata: ["action": "\(action)", "error": "\(failure)"])
    } else {
      logger.notice("pool action done", metadata: ["action": "\(action)"])
    }
    feed(.ended(id, result))
    guard running.isEmpty else { return }
    ended?.resume()
    ended = nil
  }

  private nonisolated func perform(_ action: PoolAction) async -> ActionResult {
    switch action {
    case .attachENI(let id, let request):
      await operations.attach(request) { call in Task { await self.tell(.held(id, call: call)) } }
    case .wireENI(_, let eni):
      await follow(.eni(eni.id)) ?? .done
    case .assign(let id, let eni, let kind, let count):
      await assign(id, eni, kind, count)
    case .unassign(let id, let eni, let cidrs):
      await unassign(id, eni, cidrs)
    case .freeENI(_, let eni):
      await free(eni)
    case .listENIs: await operations.list()
    case .persist, .answerAdd, .answerDelete, .wake: .done
    }
  }

  private nonisolated func assign(
    _ id: ActionID, _ eni: ENIID, _ kind: CIDRKind, _ count: Int
  ) async -> ActionResult {
    let result = await operations.assign(count, kind, to: eni)
    guard case .assigned(let cidrs) = result else { return result }
    await tell(.carriedOut(id, cidrs))
    // The pool asks for a listing before it assigns any address of this ENI.
    return await follow(.sources(arriving: cidrs, eni), mayBeDone: true) ?? result
  }

  private nonisolated func unassign(_ id: ActionID, _ eni: ENIID, _ cidrs: [IPPrefix]) async -> ActionResult {
    let result = await operations.unassign(cidrs, from: eni)
    guard case .done = result else { return result }
    await tell(.carriedOut(id, cidrs))
    if case .failed(let failure) = await follow(.sources(leaving: cidrs, eni)) {
      // An extra element is harmless: no pod has its address.
      logger.warning(
        "cannot remove an unassigned address from the source map", metadata: ["error": "\(failure)"])
    }
    return result
  }

  private nonisolated func free(_ eni: ENIID) async -> ActionResult {
    let table = await pool.enis.first { $0.eni.id == eni }?.eni.table
    if let table, let failure = await follow(.removal(eni, table)) { return failure }
    return await operations.free(eni)
  }

  /// Brings the kernel to what the pool wants now.
  ///
  /// - Returns: the failure; nil if the kernel holds the wanted state.
  private nonisolated func follow(_ scope: NodeNetwork.Scope, mayBeDone: Bool = false) async -> ActionResult? {
    do {
      try await operations.converge(to: await pool.wantedENIs, scope)
      return nil
    } catch {
      return .failed(ActionFailure(.other(CauseChain.text(error)), mayBeDone: mayBeDone))
    }
  }

  private func setWake(_ instant: PoolInstant) {
    if let wake {
      guard wake.at != instant else { return }
      wake.task.cancel()
    }
    let delay = max(.zero, instant - time().instant)
    let task = Task {
      do {
        try await Task.sleep(for: delay, tolerance: .milliseconds(5))
      } catch {
        return  // cancelled: replaced by a later wake
      }
      self.wakeUp(instant)
    }
    wake = (instant, task)
  }

  private func wakeUp(_ instant: PoolInstant) {
    if wake?.at == instant { wake = nil }
    feed(.tick)
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// Restores the node's kernel state whenever another program changes it.
//
//   idle       one thread waits for the kernel, three tasks for time or a bell                     no work
//     │ the kernel reports a foreign change
//     ▼
//   collecting 0.1 s, so that many changes cause one check; no other check starts meanwhile        one wake-up for all
//     │
//     ▼
//   checking   the changed objects are compared with the desired state; a pod's start and end     ──▶ idle
//     │        need no check
//     │ something differs
//     ▼
//   repairing  what RepairPacing admits, additions before deletions; then checking again,
//     │        three rounds at most: some kernel changes have side effects
//     ├──▶ idle      no differences: counted, logged in one line, with the likely culprit
//     └──▶ held      the same object for the fourth time in two minutes: repaired 1, 2, 4 … 60 s later, logged once
//
//   Checks also start from idle: every minute for everything, since the kernel does not report all changes
//   (iptables-legacy, some settings); after an ENI's setup for all pods, which may have state of another scheme; when a
//   held object is due; after lost notifications for everything. If the notification sockets fail, they are reopened
//   1, 2, 4 … 50 s later, followed by a check of everything.
//
// The agent's own changes cause notifications too. Those by its sockets are recognized by their port; those by iptables
// cause one more check, which finds no difference and writes nothing, so there is no loop.
//
// See also: RepairScope (what to check), NodeNetwork+Repair (how), RepairPacing, Culprit.

internal import Logging
internal import Synchronization
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

/// The repair of the node network, from "ready" to shutdown.
struct NodeRepair: Sendable {
  let network: NodeNetwork
  /// Nil if kernel changes cannot be watched: then only the check once a minute finds differences.
  let watch: NodeWatch?
  /// The current assignments.
  let assignments: @Sendable () async -> [Assignment]
  /// Writes iptables and the nftables tables; returns what was changed.
  let applyHostRules: @Sendable () async throws -> [String]
  let record: RepairRecord
  let metrics: AgentMetrics
  let time: TimeSource
  let logger: Logger

  /// How long changes are collected before a check.
  static let gathering = Duration.milliseconds(100)
  static let interval = Duration.seconds(50)
  private static let rounds = 3
  /// Wait before the notification sockets are reopened; doubled by each consecutive failure, up to `interval`.
  static let firstReopening = Duration.seconds(1)

  /// Runs until cancelled.
  func run() async {
    let work = PendingWork()
    await withTaskGroup(of: Void.self) { group in
      if let watch { group.addTask { await follow(watch, work) } }
      group.addTask { await lookEveryMinute(work) }
      group.addTask {
        while await network.wiredBell.wait() { work.add(.afterWiring) }
      }
      group.addTask { await carryOut(work) }
    }
  }

  // MARK: what brings work

  func follow(_ watch: NodeWatch, _ work: PendingWork) async {
    // Consecutive failures; a successful read resets them.
    var failures = 0
    var isOpen = true
    while !Task.isCancelled {
      do {
        if failures > 0 {
          try await watch.open()
          isOpen = true
          record.update { $0.watchFailure = nil }
          logger.notice("watching kernel changes again")
          // Changes made meanwhile are not reported.
          work.add(.everything)
        }
        while !Task.isCancelled {
          try await watch.changed()
          try await gather(watch, work)
          failures = 0
        }
      } catch {
        guard !Task.isCancelled else { return }
        let wait = time.jittered(min(NodeRepair.firstReopening * (1 << min(failures, 6)), NodeRepair.interval))
        failures += 1
        let reason = CauseChain.text(error)
        record.update { $0.watchFailure = reason }
        logger.log(
          level: isOpen ? .error : .debug,
          "cannot watch kernel changes; will reopen the sockets, checking the node once a minute meanwhile",
          metadata: ["error": "\(reason)", "in": "\(wait.brief)"])
        isOpen = false
        guard (try? await time.sleep(wait)) != nil else { return }
      }
    }
  }

  private func gather(_ watch: NodeWatch, _ work: PendingWork) async throws {
    let noticed = time.now()
    work.gathers()
    defer { work.gathered() }
    try await time.sleep(NodeRepair.gathering)
    let changes = try await watch.take(leavingOut: network.ownPorts)
    if changes.isLost { logger.warning("lost kernel notifications; checking the whole node") }
    let scope = await network.follow(changes)
    if scope != .nothing { work.add(scope, changes.origin, noticed: noticed) }
  }

  private func lookEveryMinute(_ work: PendingWork) async {
    repeat { work.add(.everything) } while (try? await time.sleep(time.jittered(NodeRepair.interval))) != nil
  }

  // MARK: looking and mending

  private func carryOut(_ work: PendingWork) async {
    await withDiscardingTaskGroup { group in
      var state = RepairState()
      while let next = await work.next() {
        do {
          try await repair(next, &state)
          if state.streak.succeeded() { logger.notice("node network can be checked again") }
        } catch {
          guard !Task.isCancelled else { return }
          failed(error, &state)
        }
        guard let due = state.nextWake() else { continue }
        group.addTask {
          guard (try? await time.sleep(max(.zero, time.now().duration(to: due)))) != nil else { return }
          work.add(.nothing)
        }
      }
    }
  }

  private func failed(_ error: any Error, _ state: inout RepairState) {
    metrics.repairFailed()
    record.update { $0.failures += 1 }
    guard state.streak.failed() else { return }
    logger.error(
      "cannot check the node network; will retry within a minute",
      metadata: ["error": "\(CauseChain.text(error))"])
  }

  private func repair(_ work: PendingWork.Work, _ state: inout RepairState) async throws {
    let scope = work.scope.union(state.takeHeld(at: time.now()))
    var mended: [NodeFault] = []
    var failed: [(NodeFault, String)] = []
    for _ in 0..<NodeRepair.rounds {
      let (found, holders, sight) = try await look(scope)
      let now = time.now()
      var admitted: [NodeFault] = []
      for fault in found {
        if state.pacing.admit(fault.subject, at: now) {
          admitted.append(fault)
        } else {
          var held = scope
          held.hostRules = false
          state.hold(held, until: state.pacing.due(fault.subject) ?? now)
        }
      }
      guard !admitted.isEmpty else {
        if found.isEmpty, let sight { try await finishTakeover(sight, holders) }
        break
      }
      for (fault, failure) in zip(admitted, try await network.mend(admitted)) {
        if let failure { failed.append((fault, CauseChain.text(failure))) } else { mended.append(fault) }
      }
    }
    if scope.hostRules { mended += try await hostRules(&state) }
    let took = work.noticed.map { $0.duration(to: time.now()) }
    try await tell(mended, failed, work.origin, took, &state)
    if scope.allENIs, scope.allPods { record.update { $0.lookedUnixNanoseconds = PoolClock.now().unixNanoseconds } }
  }

  private func look(
    _ scope: RepairScope
  ) async throws -> (faults: [NodeFault], holders: [PodHolder], sight: PodPaths.Sight?) {
    var faults = try await network.faults(in: scope)
    guard scope.needsPods else { return (faults, [], nil) }
    let sight = try await network.sight(of: scope)
    let assigned = await assignments()
    let holders = PodHolder.living(assigned)
    faults += try await network.podFaults(
      sight, scope, holders, held: Set(assigned.map(\.address)), unixNanoseconds: PoolClock.now().unixNanoseconds)
    return (faults, holders, scope.leftovers ? sight : nil)
  }

  /// Reading iptables needs processes, so check and repair are one step: pacing delays the check.
  private func hostRules(_ state: inout RepairState) async throws -> [NodeFault] {
    let subject = "iptables"
    let now = time.now()
    if let due = state.pacing.due(subject), now < due {
      var scope = RepairScope.nothing
      scope.hostRules = true
      state.hold(scope, until: due)
      return []
    }
    let changes = try await applyHostRules()
    if !changes.isEmpty { state.pacing.count(subject, at: now) }
    return changes.map { NodeFault(subject: subject, kind: .iptables, text: $0, mend: .hostRules) }
  }

  private func finishTakeover(_ sight: PodPaths.Sight, _ holders: [PodHolder]) async throws {
    guard await network.isTakenOver(sight, holders) else { return }
    try await network.dropOtherScheme()
  }

  // MARK: telling

  private func tell(
    _ mended: [NodeFault], _ failed: [(NodeFault, String)], _ origin: NodeChanges.Origin, _ took: Duration?,
    _ state: inout RepairState
  ) async throws {
    for (fault, reason) in failed {
      metrics.repairFailed()
      record.update { $0.failures += 1 }
      if state.pacing.isNews("failed: \(fault.subject)", counting: time.now()) {
        logger.error("repair failed; will retry", metadata: ["fault": "\(fault.text)", "error": "\(reason)"])
      }
    }
    let held = state.pacing.held(at: time.now())
    metrics.repairsHeld(held.count)
    record.update { $0.held = held }
    let adopted = mended.filter { $0.reason == .takeover }
    if !adopted.isEmpty {
      logger.notice(
        "pod network state migrated to this node's routing scheme",
        metadata: ["count": "\(adopted.count)", "first": "\(adopted[0].text)"])
    }
    let repaired = mended.filter { $0.reason == .repair }
    guard !repaired.isEmpty else { return }
    let culprit = Culprit.likely(try await network.evidence(repaired, origin))
    for fault in repaired { metrics.repaired(fault.kind) }
    if let took { metrics.repaired(after: took) }
    let lines = repaired.prefix(8).map(\.text)
    record.update { report in
      for fault in repaired { report.counts[fault.kind, default: 0] += 1 }
      report.last = RepairReport.Last(
        unixNanoseconds: PoolClock.now().unixNanoseconds, faults: lines, culprit: culprit)
    }
    var metadata: Logger.Metadata = ["count": "\(repaired.count)", "faults": "\(lines)"]
    metadata["culprit"] = "\(culprit ?? "unknown")"
    if let took { metadata["after"] = "\(took.brief)" }
    let news = Set(repaired.map(\.subject)).filter { state.pacing.isNews($0) }
    if news.isEmpty {
      // A repair loop is logged once; each round would only fill the log.
      let isOld = repaired.allSatisfy { held.contains($0.subject) && !$0.removesAddress }
      logger.log(
        level: isOld ? .debug : .warning, "another program changed the node network; repaired", metadata: metadata)
    } else {
      metadata["held"] = "\(news.sorted().prefix(8))"
      logger.warning(
        "another program keeps changing the node network; backing off repairs, up to a minute apart",
        metadata: metadata)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// The pool is a value: events in, actions out. No I/O, no lock, no clock of its own.
//
//   an ENI:      attachENI           wireENI ok               freeENI
//       (none) ───────────▶ wiring ─────────────▶ open ────────────────▶ freeing ──▶ (none)
//                             │ ▲                  ▲ │ gone at EC2          │
//                    failed   ▼ │ retry            │ ▼ with pods on it      │ failed: set up again
//                           broken                lost ◀────────────────────┘
//
//   (none)→wiring   `attached` arrives, or an unknown ENI is found attached; `isWired` leads to open at once
//   wiring→open     links, table and rules were verified: its addresses are assigned from here on
//   wiring→broken   setup failed: growth does not count on its addresses; retried with backoff
//   open→wiring     a listing shows addresses on it that the kernel does not route yet
//   open→freeing    idle, old enough, and the other ENIs meet the targets; written to the checkpoint before the call
//   freeing→wiring  the detach failed; part of the setup may be gone, so it is repeated and verified. After a lost answer
//                   it stays `freeing`: EC2 may carry out the call later, so the free is repeated
//   open→lost       EC2 no longer lists it; pods on it stay accounted and connected until they end
//
//   an address:        ADD              DEL            cooldown over
//              free ──────────▶ assigned ────▶ cooling ──────────────▶ free
//               ▲ │ idle CIDR, surplus             (checkpointFailed: assigned ──▶ free)
//      assign   │ ▼ unassign
//              at EC2
//
//   an ADD: answered at once with a free address; otherwise it waits while an address can still become free before its
//   deadline (requested, requestable or in cooldown); if not, it fails at once with the cause.
//
// Every event ends in `settle`, which serves waiters, plans growth, refuses requests that cannot be served, tidies, and
// schedules the next tick. Nothing waits for anything else: at most one action per ENI is in progress, any number in
// total.

/// The addresses of one network card of a node: their allocations, and the EC2 calls to make.
///
/// Feed every event through `handle` and run the actions that it returns. The first event is `started`.
package struct Pool: Sendable {
  package internal(set) var settings: PoolSettings
  var book = AddressBook()
  var queue = WaiterQueue()
  var turnedAway = TurnedAway()
  var inFlight: [ActionID: InFlight] = [:]
  /// Addresses that growth in progress will add.
  var pendingAddresses = 0
  var backoffs = [Backoff](repeating: Backoff(), count: ActionClass.allCases.count)
  /// Subnets that were full, and until when they are paused.
  var pausedSubnets: [SubnetID: PoolInstant] = [:]
  /// Subnets without a free prefix, and until when single addresses are used there.
  var fallbackSubnets: [SubnetID: PoolInstant] = [:]
  /// The cap per request for a subnet that could not satisfy an earlier request.
  var subnetCaps: [SubnetID: Int] = [:]
  /// Recent changes that listings may not show yet.
  var recent = RecentChanges()
  /// The last difference between IMDS and the book, and when EC2 is asked about it again.
  var doubts: [ENIID: Doubt] = [:]
  /// Addresses of running pods that EC2's listing lacks.
  var inquiry = Inquiry()
  /// CIDRs in use that a listing shows on another ENI: they move when a later listing confirms it.
  var moves: [IPPrefix: Move] = [:]
  /// What EC2 removed under running pods, since the start.
  package internal(set) var forcedRemovals = ForcedRemovals()
  var subnets: [SubnetID] = []
  /// Why no subnet may be used for new ENIs.
  var noSubnet: String?
  /// ENIs whose network setup is not done, and when to retry a failed one.
  var unwired: [Int: Backoff] = [:]
  /// ENIs for which EC2 refuses more addresses for an ENI-specific reason, and when to retry.
  var refusedENIs: [Int: Backoff] = [:]
  /// Device indexes that EC2 reported as taken although no known ENI has them, and until when that is believed.
  var takenDevices: [Int: PoolInstant] = [:]
  /// When the answer to an attach was lost: a later listing shows whether there is one more ENI.
  var unclearAttachAt: PoolInstant?
  /// EC2 refused to attach one more ENI although the type allows it.
  var attachmentLimit: AttachmentLimit?
  /// When the last compared listing was requested: at the start, from IMDS, or from EC2.
  var reconciledAt: PoolInstant?
  var isStarted = false
  var isShutDown = false
  /// The quarantine has entries that the checkpoint lacks.
  var isUnwritten = false
  var isSchedulable = true
  /// Addresses of pods that ended without a DEL, as last reported; for the cause in refusals.
  var endedPods = 0
  var needsListing = false
  var shrinkAt: PoolInstant?
  /// When tidying runs next.
  var tidyAt: PoolInstant?
  var tidiedAt: PoolInstant?
  var growthRetryAt: PoolInstant?
  /// When growth for unmet warm targets starts.
  var gatheredAt: PoolInstant?
  /// When the current event happened.
  private(set) var clock = PoolInstant(nanoseconds: 0)
  /// The number of events so far.
  private(set) var generation: UInt64 = 0
  private var wakeAt: PoolInstant?
  private var lastAction: UInt64 = 0
  var random: SplitMix64

  /// - Parameter seed: for the jitter of waits; the same seed and events give the same actions.
  package init(settings: PoolSettings, seed: UInt64) {
    self.settings = settings
    random = SplitMix64(seed: seed)
  }

  /// The limit learned from AttachmentLimitExceeded. It applies until an attachment beyond it succeeds: no listing
  /// shows the volumes that take an instance's slots.
  struct AttachmentLimit: Sendable {
    /// ENIs of network card 0 that were attached then.
    var attached: Int
    /// When one more is tried.
    var backoff = Backoff()
  }

  /// How long a shortage of warm addresses lasts before they are requested.
  static let gathering = Duration.seconds(1)

  /// An action that has not ended.
  struct InFlight: Sendable {
    enum Work: Sendable {
      case attach(AttachRequest)
      case assign(slot: Int, SubnetID, CIDRKind, count: Int)
      case unassign(slot: Int, [IPPrefix])
      case free(slot: Int)
      case wire(slot: Int, Set<IPPrefix>)
      case list
    }
    let work: Work
    let since: PoolInstant
    /// Addresses that it will bring.
    let supply: Int
    /// The throttled call, if the action waits for it.
    var heldBy: String?
    /// CIDRs that EC2 has assigned or unassigned; the kernel follows. Nil before EC2's answer.
    var carriedOut: [IPPrefix]?
  }

  /// The actions of one event, with answers and work separate.
  struct Batch {
    /// `persist`, if the checkpoint changed, and the answers.
    private(set) var answers: [PoolAction] = []
    var work: [PoolAction] = []
    var actions: [PoolAction] { work.isEmpty ? answers : answers + work }

    mutating func answer(_ answer: PoolAction) { answers.append(answer) }

    /// The checkpoint changed.
    mutating func persist() {
      if answers.isEmpty {
        answers.reserveCapacity(2)
        answers.append(.persist)
      } else if answers.first != .persist {
        answers.insert(.persist, at: 0)
      }
    }
  }

  /// Handles an event and returns the actions to run.
  ///
  /// - Parameter time: never earlier than with the event before.
  /// - Returns: `persist` first if the checkpoint changed, then answers, then work, then a `wake`.
  package mutating func handle(_ event: PoolEvent, now time: PoolTime) -> [PoolAction] {
    var batch = Batch()
    let now = time.instant
    clock = now
    generation &+= 1
    let hadWaiters = !queue.isEmpty
    book.thaw(now)
    switch event {
    case .started(let start): begin(start, time, &batch)
    case .add(let request): add(request, time, &batch)
    case .addCancelled(let waiter): cancel(waiter, &batch)
    case .delete(let key, let waiter): delete(key, waiter, now, &batch)
    case .ended(let id, let result): ended(id, result, time, &batch)
    case .held(let id, let call): inFlight[id]?.heldBy = call
    case .carriedOut(let id, let cidrs): inFlight[id]?.carriedOut = cidrs
    case .observed(let listing): if isStarted { reconcile(listing, now) }
    case .checkpointFailed(let unsent, let reason): undo(unsent, reason, &batch)
    case .tick: break
    case .maxPods(let count):
      settings.maxPods = max(count, 0)
      tidy(from: now)
    case .endedPods(let count): endedPods = count
    case .schedulable(let isSchedulable):
      self.isSchedulable = isSchedulable
      tidy(from: now)
    case .subnets(let choices): if !choices.isEmpty { (subnets, noSubnet) = (choices, nil) }
    case .subnetsUnknown(let reason): (subnets, noSubnet) = ([], reason)
    case .shutdown: isShutDown = true
    }
    settle(time, &batch, hadWaiters: hadWaiters)
    return batch.actions
  }

  private mutating func settle(_ time: PoolTime, _ batch: inout Batch, hadWaiters: Bool) {
    let now = time.instant
    guard isStarted else { return }
    if isUnwritten {
      batch.persist()
      isUnwritten = false
    }
    if settings.usesCustomNetworking { rankENIs(now) }
    // Before growth: the freed slots may be used.
    if let tidyAt, tidyAt <= now { dropLost() }
    if !queue.isEmpty { serve(time, &batch) }
    if !isShutDown {
      if !unwired.isEmpty { wire(now, &batch) }
      grow(now, &batch)
    }
    if !queue.isEmpty {
      makeRoom(now, &batch)
      refuse(now, &batch)
    }
    // Nothing was unassigned while pods waited.
    if hadWaiters, queue.isEmpty { tidy(from: now) }
    if !isShutDown {
      if let tidyAt, tidyAt <= now { tidy(now, &batch) }
      inquire(now)
      if let due = recent.provableAt, due <= now { needsListing = true }
      if needsListing { list(now, &batch) }
    }
    wake(now, &batch)
  }

  /// Records a new action as in progress.
  mutating func start(_ work: InFlight.Work, supply: Int = 0) -> ActionID {
    lastAction += 1
    let id = ActionID(lastAction)
    inFlight[id] = InFlight(work: work, since: clock, supply: supply)
    pendingAddresses += supply
    return id
  }

  /// Whether EC2 calls that change the number of addresses or ENIs are allowed.
  var mayProvision: Bool {
    isStarted && !isShutDown && settings.provisions && (isSchedulable || settings.managesUnschedulable)
  }

  /// The next instant at which something is due without an event. Work that is already due waits for an event anyway.
  private mutating func wake(_ now: PoolInstant, _ batch: inout Batch) {
    var next: PoolInstant?
    let consider = { (instant: PoolInstant?) in
      guard let instant, instant > now else { return }
      next = min(next ?? instant, instant)
    }
    consider(tidyAt)
    consider(inquiry.askAt)
    consider(recent.provableAt)
    if !queue.isEmpty {
      consider(queue.earliestDeadline)
      consider(book.cooling.first?.until)
      consider(lendAt)
    }
    consider(growthRetryAt)
    if !fallbackSubnets.isEmpty { consider(fallbackSubnets.values.min()) }
    for (slot, backoff) in unwired where book.enis[slot].action == nil { consider(backoff.urgentAt) }
    if needsListing { consider(backoffs[ActionClass.list.rawValue].dueAt(urgent: isListingUrgent)) }
    guard let next else { return }
    if let wakeAt, wakeAt > now, wakeAt <= next { return }
    wakeAt = next
    batch.work.append(.wake(at: next))
  }
}

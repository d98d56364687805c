// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// A pool with a small EC2 around it, in virtual time. The rig checks the invariants after every batch. It records a
/// violation as an issue and in `violations`.
struct PoolRig {
  struct ENI {
    var device: Int
    var subnet: SubnetID
    var cidrs: Set<IPPrefix>
    /// What the node's kernel routes to the ENI; nil until the ENI is wired for the first time since the agent's start.
    var led: Set<IPPrefix>?
    var isWired: Bool { led != nil }
    var card = 0
  }

  /// The effect of a fault: the failure to report, and whether EC2 carried out the call anyway.
  struct Fault {
    var failure: ActionFailure
    var isDone = false
  }

  struct Running {
    let at: PoolInstant
    let order: Int
    let id: ActionID
    let action: PoolAction
  }

  var pool: Pool
  var time: PoolTime
  var enis: [ENIID: ENI] = [:]
  var running: [Running] = []
  /// Calls of killed agents that EC2 carries out later.
  var late: [Running] = []
  /// Where the kernel routes running pods although the listing at the start did not show it.
  var kept: [IPAddress: ENIID] = [:]
  var wakeAt: PoolInstant?
  /// Answered ADDs.
  var answers: [WaiterID: AddAnswer] = [:]
  var released: [WaiterID: DeleteAnswer] = [:]
  /// ADDs without an answer, with their deadlines.
  var waiting: [WaiterID: PoolInstant] = [:]
  /// Which pod was given which address.
  var inUse: [IPAddress: AttachmentKey] = [:]
  var cooledUntil: [IPAddress: PoolInstant] = [:]
  /// Calls started, by kind.
  var calls: [String: Int] = [:]
  var violations: [String] = []
  var persists = 0
  /// The checkpoint as last written.
  var saved = Checkpoint()
  /// The text of the checkpoint, updated change by change.
  private var document = CheckpointDocument()
  private var batches = 0
  /// What was attached before each change of the last minutes, with the instant of the change.
  var history: [(until: PoolInstant, listing: [ENIObservation])] = []
  private var nextWaiter: UInt64 = 0
  var nextENI = 0
  /// When EC2 last assigned a CIDR.
  var givenAt: [IPPrefix: PoolInstant] = [:]
  /// ENIs that a killed agent's call took away after the next agent had found them.
  var goneLate: Set<ENIID> = []

  /// Free single addresses and free prefixes of the subnet.
  var freeAddresses = 10_000
  var freePrefixes = 1000
  var latency: Duration = .milliseconds(300)
  var fault: (PoolAction) -> Fault? = { _ in nil }
  /// The age of the listings that the pool asks for.
  var listingLag: Duration = .zero
  /// How many ENIs EC2 attaches on card 0 at most, where volumes take slots; nil: as many as the type allows.
  var attachable: Int?
  /// What EC2's listings show instead of what is attached.
  var answersListing: (() -> [ENIObservation])?
  /// Fails the writing of a checkpoint.
  var failsCheckpoint = false
  /// ENIs that the pool did not create.
  let unmanagedENIs: Int

  // swift-format-ignore: NeverForceUnwrap
  static let subnet = SubnetID("subnet-1")!
  // swift-format-ignore: NeverForceUnwrap
  static let primary = ENIID("eni-0")!

  init(_ settings: PoolSettings, seed: UInt64 = 1, unmanagedENIs: Int = 0) {
    pool = Pool(settings: settings, seed: seed)
    time = PoolTime(instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1_700_000_000_000_000_000)
    enis[PoolRig.primary] = ENI(device: 0, subnet: PoolRig.subnet, cidrs: [], led: [])
    self.unmanagedENIs = unmanagedENIs
  }

  var now: PoolInstant { time.instant }

  // MARK: driving

  /// Adds an ENI that the pool finds at its start or with the next listing.
  mutating func place(
    _ id: ENIID, device: Int, card: Int = 0, subnet: SubnetID = PoolRig.subnet, cidrs: [IPPrefix] = []
  ) {
    enis[id] = ENI(device: device, subnet: subnet, cidrs: Set(cidrs), led: nil, card: card)
  }

  /// Sets the counts of calls to zero.
  mutating func forgetCalls() { calls = [:] }

  mutating func start(checkpoint: Checkpoint = Checkpoint(), primaryCIDRs: [IPPrefix] = []) {
    enis[PoolRig.primary]?.cidrs = Set(primaryCIDRs)
    enis[PoolRig.primary]?.led = Set(primaryCIDRs)
    var observed = listing()
    for number in 0..<unmanagedENIs {
      guard let id = ENIID("eni-u\(number)") else { continue }
      observed.append(
        ENIObservation(id: id, device: 50 + number, subnet: PoolRig.subnet, isManaged: false, isWired: false))
    }
    for entry in checkpoint.allocations {
      inUse[entry.address] = entry.key
      if !primaryCIDRs.contains(where: { $0.contains(entry.address) }) { robbed.insert(entry.address) }
    }
    feed(.started(PoolStart(enis: observed, checkpoint: checkpoint)))
  }

  static func key(_ name: String) -> AttachmentKey {
    AttachmentKey(networkName: "aws-cni", containerID: name, ifName: "eth0")
  }

  @discardableResult
  mutating func add(_ name: String, timeout: Duration = .seconds(20)) -> WaiterID {
    nextWaiter += 1
    let waiter = WaiterID(nextWaiter)
    waiting[waiter] = now + timeout
    let request = AddRequest(
      waiter: waiter, key: PoolRig.key(name), pod: PodName(namespace: "default", name: name), deadline: now + timeout)
    feed(.add(request))
    return waiter
  }

  @discardableResult
  mutating func delete(_ name: String) -> WaiterID {
    nextWaiter += 1
    let waiter = WaiterID(nextWaiter)
    feed(.delete(PoolRig.key(name), waiter))
    if released[waiter] == nil { violate("DEL of \(name) was not answered") }
    return waiter
  }

  mutating func cancel(_ waiter: WaiterID) { feed(.addCancelled(waiter)) }

  mutating func feed(_ event: PoolEvent) {
    batches += 1
    take(pool.handle(event, now: time))
    checkSums()
    checkLed()
  }

  /// Lets virtual time pass; actions end and wakes occur at their instants.
  mutating func advance(_ duration: Duration) {
    let end = now + duration
    while let next = nextInstant, next <= end { step(to: next) }
    time = PoolTime(
      instant: end, unixNanoseconds: time.unixNanoseconds + (end - now).saturatedNanoseconds)
  }

  /// Lets time pass until no action is running and nobody waits, ten minutes at most.
  mutating func settle() {
    let end = now + .seconds(600)
    while !running.isEmpty || !waiting.isEmpty, let next = nextInstant, next <= end { step(to: next) }
    if !waiting.isEmpty { violate("\(waiting.count) waiters were never answered") }
  }

  private var nextInstant: PoolInstant? {
    [running.map(\.at).min(), late.map(\.at).min(), wakeAt].compactMap { $0 }.min().map { max($0, now) }
  }

  private mutating func step(to instant: PoolInstant) {
    time = PoolTime(
      instant: instant, unixNanoseconds: time.unixNanoseconds + (instant - now).saturatedNanoseconds)
    if let index = late.firstIndex(where: { $0.at <= instant }) {
      carryOutLate(late.remove(at: index).action)
    } else if let index = running.indices.min(by: {
      (running[$0].at, running[$0].order) < (running[$1].at, running[$1].order)
    }), running[index].at <= instant {
      let ended = running.remove(at: index)
      let result = perform(ended.action)
      feed(.ended(ended.id, result))
    } else {
      wakeAt = nil
      feed(.tick)
    }
    for (waiter, deadline) in waiting where deadline + .milliseconds(2) < now {
      violate("waiter \(waiter.number) is past its deadline")
      waiting[waiter] = nil
    }
  }

  // MARK: the pool's output

  private mutating func take(_ actions: [PoolAction]) {
    var unsent: [UnsentAnswer] = []
    var refused: [PoolEvent] = []
    let writes = actions.first == .persist
    if writes { persists += 1 }
    let isFailing = writes && failsCheckpoint
    if writes { write(isFailing: isFailing) }
    for (index, action) in actions.enumerated() {
      switch action {
      case .persist: if index > 0 { violate("persist is not first") }
      case .answerAdd(let waiter, let answer):
        if isFailing, case .assigned(let assignment) = answer {
          unsent.append(UnsentAnswer(waiter: waiter, assignment: assignment))
          continue
        }
        answered(waiter, answer, isWritten: writes)
      case .answerDelete(let waiter, let answer):
        released[waiter] = answer
        if case .released(let assignment) = answer {
          if inUse.removeValue(forKey: assignment.address) == nil { violate("released what nobody had") }
          cooledUntil[assignment.address] = now + pool.settings.cooldown
        }
      case .unassign(let id, _, _) where isFailing, .freeENI(let id, _) where isFailing:
        refused.append(.ended(id, .failed(ActionFailure(.other("no space")))))
      case .wake(let instant):
        if instant <= now { violate("a wake in the past") }
        wakeAt = instant
      default: begin(action)
      }
    }
    if isFailing, !unsent.isEmpty {
      failsCheckpoint = false
      feed(.checkpointFailed(unsent, reason: "no space"))
      failsCheckpoint = true
    }
    for event in refused { feed(event) }
  }

  /// The document that is updated change by change must equal a document written from scratch.
  private mutating func write(isFailing: Bool) {
    pool.update(&document)
    var whole = CheckpointDocument()
    pool.update(&whole)
    let cooldowns = pool.cooldowns(now: time)
    let returns = pool.returns(now: time)
    let clock = CheckpointClock(bootID: "boot", time: time)
    let read = CheckpointReader.read(document.withBytes(cooldowns: cooldowns, returns: returns, clock: clock) { $0 })
    let expected = CheckpointReader.read(whole.withBytes(cooldowns: []) { $0 }).checkpoint.allocations
    if !read.findings.isEmpty { violate("the checkpoint is not read as written: \(read.findings)") }
    if Set(read.checkpoint.allocations) != Set(expected) || document.count != expected.count {
      violate("the checkpoint names other allocations than the pool")
    }
    if read.checkpoint.cooldowns != cooldowns { violate("the checkpoint names other cooldowns than the pool") }
    if read.checkpoint.returns != returns || read.checkpoint.clock != clock {
      violate("the checkpoint names other returns than the pool")
    }
    if !isFailing { saved = read.checkpoint }
  }

  private mutating func answered(_ waiter: WaiterID, _ answer: AddAnswer, isWritten: Bool) {
    if waiting.removeValue(forKey: waiter) == nil { violate("waiter \(waiter.number) was answered twice") }
    answers[waiter] = answer
    guard case .assigned(let assignment) = answer else { return }
    let address = assignment.address
    if let holder = inUse[address], holder != assignment.key { violate("\(address) was given out twice") }
    if inUse[address] == nil {
      if !isWritten { violate("\(address) was given out without a checkpoint") }
      if let until = cooledUntil[address], until > now { violate("\(address) was given out in cooldown") }
      let owner = enis.first { $0.value.cidrs.contains { $0.contains(address) } }
      if owner == nil { violate("\(address) is on no ENI") }
      if let owner, owner.value.led?.contains(where: { $0.contains(address) }) != true {
        violate("\(address) is given out and not led to \(owner.key)")
      }
      if let owner, owner.key != assignment.eni { violate("\(address) is not on \(assignment.routeTable)") }
    }
    inUse[address] = assignment.key
  }

  private mutating func begin(_ action: PoolAction) {
    guard let id = action.id else { return }
    let kind: String
    switch action {
    case .attachENI(_, let request):
      kind = "attach"
      let others = running.compactMap { if case .attachENI(_, let request) = $0.action { request.device } else { nil } }
      let known = Set(pool.enis.filter { $0.eni.card == 0 }.map(\.eni.id))
      if enis.contains(where: { $0.value.device == request.device && known.contains($0.key) })
        || others.contains(request.device)
      {
        violate("device index \(request.device) is taken")
      }
      if known.count + others.count >= pool.settings.eniLimit { violate("more ENIs than the limit") }
      if request.count < 1 || request.count > pool.settings.slotsPerENI { violate("\(request.count) for a new ENI") }
    case .assign(_, let eni, _, let count):
      kind = "assign"
      check(eni)
      let known = pool.enis.first { $0.eni.id == eni }?.cidrs.count ?? 0
      if known + count > pool.settings.slotsPerENI { violate("too many for \(eni)") }
    case .unassign(_, let eni, let prefixes):
      kind = "unassign"
      check(eni)
      for prefix in prefixes { checkIdle(prefix) }
    case .freeENI(_, let eni):
      kind = "free"
      check(eni)
      for prefix in enis[eni]?.cidrs ?? [] { checkIdle(prefix) }
      if eni == PoolRig.primary { violate("the primary ENI was freed") }
    case .wireENI(_, let observation):
      kind = "wire"
      check(observation.id)
    case .listENIs: kind = "list"
    case .persist, .answerAdd, .answerDelete, .wake: return
    }
    calls[kind, default: 0] += 1
    running.append(Running(at: now + latency, order: running.count + batches * 1000, id: id, action: action))
  }

  /// An action must concern an existing ENI and be the only action for it.
  private mutating func check(_ eni: ENIID) {
    if enis[eni] == nil, !goneLate.contains(eni) { violate("an action for \(eni), which is not there") }
    if isBusy(eni) { violate("two actions at once for \(eni)") }
  }

  private func isBusy(_ eni: ENIID) -> Bool {
    running.contains {
      switch $0.action {
      case .assign(_, eni, _, _), .unassign(_, eni, _), .freeENI(_, eni): true
      case .wireENI(_, let observation): observation.id == eni
      default: false
      }
    }
  }

  mutating func checkIdle(_ prefix: IPPrefix) {
    for address in inUse.keys where prefix.contains(address) { violate("\(address) was given back in use") }
    for (address, until) in cooledUntil where until > now && prefix.contains(address) {
      violate("\(address) was given back in cooldown")
    }
  }

  /// The kernel must route every running pod to the ENI that has its address at EC2. For an ENI without a running
  /// action it must route at least the CIDRs that the pool has on it.
  private mutating func checkLed() {
    robbed.formIntersection(inUse.keys)
    for (address, key) in inUse where !robbed.contains(address) {
      guard let owner = enis.first(where: { $0.value.cidrs.contains { $0.contains(address) } }) else { continue }
      let isLed = owner.value.led?.contains { $0.contains(address) } ?? false
      if !isLed, kept[address] != owner.key { violate("\(key.containerID) with \(address) is not led to \(owner.key)") }
    }
    for snapshot in pool.enis where snapshot.isOpen && snapshot.isWired {
      guard let eni = enis[snapshot.eni.id], let led = eni.led, !isBusy(snapshot.eni.id) else { continue }
      let book = Set(snapshot.cidrs.map(\.prefix))
      // The kernel may route more unless another ENI gives it out: an ENI that is not wired yet gives nothing out.
      let wrong = pool.enis.contains { other in
        other.eni.id != snapshot.eni.id && other.isOpen
          && other.cidrs.contains { led.contains($0.prefix) && $0.isUsable }
      }
      if !book.isSubset(of: led) || wrong {
        violate("\(snapshot.eni.id) has \(book.sorted()), the kernel leads \(led.sorted())")
      }
    }
  }

  /// What the kernel routes beyond the pool's own records; nothing when the pool is at rest.
  func ledBesidesTheBook() -> [IPPrefix] {
    pool.enis.filter { $0.isOpen && $0.isWired }.flatMap { snapshot in
      (enis[snapshot.eni.id]?.led ?? []).subtracting(snapshot.cidrs.map(\.prefix))
    }
  }

  /// Compares the pool's sums with the answers that it gave.
  private mutating func checkSums() {
    let counts = pool.counts
    if counts.assigned != inUse.count { violate("assigned \(counts.assigned), told \(inUse.count)") }
    if counts.waiting != waiting.count { violate("waiting \(counts.waiting), told \(waiting.count)") }
    if counts.free < 0 || counts.pending < 0 || counts.cooling < 0 { violate("a negative sum: \(counts)") }
    if counts.free + counts.assigned - counts.stray + counts.cooling > counts.total { violate("sums: \(counts)") }
  }

  mutating func violate(_ text: String) {
    guard violations.count < 20 else { return }
    violations.append("\(text) (batch \(batches))")
  }

  /// Kills the agent and starts it again from the written checkpoint, without the pods that are gone. EC2 carries out
  /// each call in flight now, later or never.
  ///
  /// - Parameters:
  ///   - lag: the age of the listing that it starts with.
  ///   - misses: whether that listing lacks an address or an ENI.
  mutating func restart(seed: UInt64, settings: PoolSettings? = nil, lag: Duration = .zero, misses: Bool = false) {
    var random = SplitMix64(seed: seed)
    for action in running {
      // A dead agent changes nothing in the kernel any more.
      if case .wireENI = action.action { continue }
      switch Int.random(in: 0..<3, using: &random) {
      case 0:
        // A stale listing may still show the ENI to the next agent.
        if case .freeENI(_, let eni) = action.action { goneLate.insert(eni) }
        _ = done(action.action, isLate: true)
      case 1:
        let at = now + .milliseconds(Int.random(in: 1...50_000, using: &random))
        late.append(Running(at: at, order: action.order, id: action.id, action: action.action))
      default: break
      }
    }
    running = []
    waiting = [:]
    wakeAt = nil
    pool = Pool(settings: settings ?? pool.settings, seed: seed)
    document = CheckpointDocument()
    saved.allocations.removeAll { inUse[$0.address] != $0.key }
    guard let read = Self.throughText(saved) else { return violate("the checkpoint was not read as written") }
    feed(.started(PoolStart(enis: whatTheStartFinds(lag, misses, &random), checkpoint: read)))
  }

  /// A listing combined with what the node itself knows of its running pods, as at the agent's start.
  private mutating func whatTheStartFinds(
    _ lag: Duration, _ misses: Bool, _ random: inout SplitMix64
  ) -> [ENIObservation] {
    var found = seen(lag: lag).sorted { $0.device < $1.device }
    if misses, let victim = found.indices.randomElement(using: &random) {
      if victim > 0, Bool.random(using: &random) {
        found.remove(at: victim)
      } else if let cidr = found[victim].cidrs.randomElement(using: &random) {
        found[victim].cidrs.removeAll { $0 == cidr }
      }
    }
    for address in inUse.keys {
      let by = enis.first { $0.value.led?.contains { $0.contains(address) } == true }?.key ?? kept[address]
      guard let by else { continue }
      for index in found.indices where found[index].id != by {
        found[index].cidrs.removeAll { $0.contains(address) }
      }
      if found.first(where: { $0.id == by })?.cidrs.contains(where: { $0.contains(address) }) != true {
        kept[address] = by
      }
    }
    for id in enis.keys { enis[id]?.led = nil }
    for index in found.indices {
      found[index].isWired = found[index].device == 0
      enis[found[index].id]?.led = found[index].isWired ? Set(found[index].cidrs) : nil
      // The kernel has these before the pool starts; the wiring that the pool requests verifies them.
      for address in inUse.keys where found[index].cidrs.contains(where: { $0.contains(address) }) {
        kept[address] = found[index].id
      }
    }
    return found
  }

  private static func throughText(_ checkpoint: Checkpoint) -> Checkpoint? {
    let result = CheckpointReader.read(checkpoint.encoded())
    return result.findings.isEmpty && result.checkpoint == checkpoint ? result.checkpoint : nil
  }

  // MARK: changes behind the pool's back

  /// Addresses that were taken from running pods: nothing can route those correctly.
  private var robbed: Set<IPAddress> = []

  mutating func removeAtEC2(_ prefix: IPPrefix) {
    remember()
    robbed.formUnion(inUse.keys.filter(prefix.contains))
    for id in enis.keys { enis[id]?.cidrs.remove(prefix) }
    giveBack(prefix)
    // Listings are never old enough to show what others took: nobody could tell the difference.
    history = []
  }

  mutating func removeAtEC2(_ id: ENIID) {
    remember()
    for prefix in enis.removeValue(forKey: id)?.cidrs ?? [] {
      robbed.formUnion(inUse.keys.filter(prefix.contains))
      giveBack(prefix)
    }
  }

  mutating func addAtEC2(_ id: ENIID, _ prefix: IPPrefix) { enis[id]?.cidrs.insert(prefix) }

  /// A listing that the pool did not request, as the periodic comparison feeds it.
  mutating func observe(isAuthoritative: Bool) {
    feed(.observed(ENIListing(enis: listing(), askedAt: now, isAuthoritative: isAuthoritative)))
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// A pool with a small EC2 around it, in virtual time. Every batch is checked against what must always hold; a broken
/// rule is recorded as an issue and in `violations`.
struct PoolRig {
  struct ENI {
    var device: Int
    var subnet: SubnetID
    var cidrs: Set<IPPrefix>
    var isWired: Bool
  }

  /// What a fault does: the failure to report, and whether EC2 did it all the same.
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

  private(set) var pool: Pool
  private(set) var time: PoolTime
  private(set) var enis: [ENIID: ENI] = [:]
  private(set) var running: [Running] = []
  private(set) var wakeAt: PoolInstant?
  /// Answered ADDs.
  private(set) var answers: [WaiterID: AddAnswer] = [:]
  private(set) var released: [WaiterID: DeleteAnswer] = [:]
  /// ADDs without an answer, with their deadlines.
  private(set) var waiting: [WaiterID: PoolInstant] = [:]
  /// Who was told to have what.
  private(set) var inUse: [IPAddress: AttachmentKey] = [:]
  private(set) var cooledUntil: [IPAddress: PoolInstant] = [:]
  /// Calls started, by kind.
  private(set) var calls: [String: Int] = [:]
  private(set) var violations: [String] = []
  private(set) var persists = 0
  /// The checkpoint as last written.
  private(set) var saved = Checkpoint()
  /// Its text, brought up to date by what changed.
  private var document = CheckpointDocument()
  private var batches = 0
  /// What was attached before each change of the last minutes, with the instant of the change.
  private var history: [(until: PoolInstant, listing: [ENIObservation])] = []
  private var nextWaiter: UInt64 = 0
  private var nextENI = 0

  /// Free single addresses and free prefixes of the subnet.
  var freeAddresses = 10_000
  var freePrefixes = 1000
  var latency: Duration = .milliseconds(300)
  var fault: (PoolAction) -> Fault? = { _ in nil }
  /// Fails the writing of a checkpoint.
  var failsCheckpoint = false
  /// ENIs that are there without the pool having asked.
  let unmanagedENIs: Int

  // swift-format-ignore: NeverForceUnwrap
  static let subnet = SubnetID("subnet-1")!
  // swift-format-ignore: NeverForceUnwrap
  static let primary = ENIID("eni-0")!

  init(_ settings: PoolSettings, seed: UInt64 = 1, unmanagedENIs: Int = 0) {
    pool = Pool(settings: settings, seed: seed)
    time = PoolTime(instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1_700_000_000_000_000_000)
    enis[PoolRig.primary] = ENI(device: 0, subnet: PoolRig.subnet, cidrs: [], isWired: true)
    self.unmanagedENIs = unmanagedENIs
  }

  var now: PoolInstant { time.instant }

  // MARK: driving

  mutating func start(checkpoint: Checkpoint = Checkpoint(), primaryCIDRs: [IPPrefix] = []) {
    enis[PoolRig.primary]?.cidrs = Set(primaryCIDRs)
    var observed = listing()
    for number in 0..<unmanagedENIs {
      guard let id = ENIID("eni-u\(number)") else { continue }
      observed.append(
        ENIObservation(id: id, device: 50 + number, subnet: PoolRig.subnet, isManaged: false, isWired: false))
    }
    for entry in checkpoint.allocations { inUse[entry.address] = entry.key }
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
  }

  /// Lets virtual time pass; ends of actions and wakes happen at their instants.
  mutating func advance(_ duration: Duration) {
    let end = now + duration
    while let next = nextInstant, next <= end { step(to: next) }
    time = PoolTime(
      instant: end, unixNanoseconds: time.unixNanoseconds + (end - now).saturatedNanoseconds)
  }

  /// Lets time pass until nothing is under way and nobody waits, ten minutes at most.
  mutating func settle() {
    let end = now + .seconds(600)
    while !running.isEmpty || !waiting.isEmpty, let next = nextInstant, next <= end { step(to: next) }
    if !waiting.isEmpty { violate("\(waiting.count) waiters were never answered") }
  }

  private var nextInstant: PoolInstant? {
    [running.map(\.at).min(), wakeAt].compactMap { $0 }.min().map { max($0, now) }
  }

  private mutating func step(to instant: PoolInstant) {
    time = PoolTime(
      instant: instant, unixNanoseconds: time.unixNanoseconds + (instant - now).saturatedNanoseconds)
    if let index = running.indices.min(by: {
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

  // MARK: what comes back

  private mutating func take(_ actions: [PoolAction]) {
    var unsent: [UnsentAnswer] = []
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
  }

  /// What is brought up to date change by change must say what a new document is told.
  private mutating func write(isFailing: Bool) {
    pool.update(&document)
    var whole = CheckpointDocument()
    pool.update(&whole)
    let cooldowns = pool.cooldowns(now: time)
    let read = CheckpointReader.read(document.withBytes(cooldowns: cooldowns) { $0 })
    let expected = CheckpointReader.read(whole.withBytes(cooldowns: []) { $0 }).checkpoint.allocations
    if !read.findings.isEmpty { violate("the checkpoint is not read as written: \(read.findings)") }
    if Set(read.checkpoint.allocations) != Set(expected) || document.count != expected.count {
      violate("the checkpoint names other allocations than the pool")
    }
    if read.checkpoint.cooldowns != cooldowns { violate("the checkpoint names other cooldowns than the pool") }
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
      if let owner, !owner.value.isWired { violate("\(owner.key) is not wired") }
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
      if enis.values.contains(where: { $0.device == request.device }) || others.contains(request.device) {
        violate("device index \(request.device) is taken")
      }
      if enis.count + others.count + unmanagedENIs >= pool.settings.eniLimit { violate("more ENIs than the limit") }
      if request.count < 1 || request.count > pool.settings.slotsPerENI { violate("\(request.count) for a new ENI") }
    case .assign(_, let eni, _, let count):
      kind = "assign"
      check(eni)
      if (enis[eni]?.cidrs.count ?? 0) + count > pool.settings.slotsPerENI { violate("too many for \(eni)") }
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

  /// An action must be about an ENI that is there, and the only one about it.
  private mutating func check(_ eni: ENIID) {
    if enis[eni] == nil { violate("an action for \(eni), which is not there") }
    let isBusy = running.contains {
      switch $0.action {
      case .assign(_, eni, _, _), .unassign(_, eni, _), .freeENI(_, eni): true
      case .wireENI(_, let observation): observation.id == eni
      default: false
      }
    }
    if isBusy { violate("two actions at once for \(eni)") }
  }

  private mutating func checkIdle(_ prefix: IPPrefix) {
    for address in inUse.keys where prefix.contains(address) { violate("\(address) was given back in use") }
    for (address, until) in cooledUntil where until > now && prefix.contains(address) {
      violate("\(address) was given back in cooldown")
    }
  }

  /// Sums of the pool against what was told.
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

  // MARK: the small EC2

  func listing() -> [ENIObservation] {
    enis.map { id, eni in
      ENIObservation(
        id: id, device: eni.device, subnet: eni.subnet, cidrs: eni.cidrs.sorted(), isWired: eni.isWired)
    }
  }

  private mutating func perform(_ action: PoolAction) -> ActionResult {
    if let fault = fault(action) {
      if fault.isDone { _ = done(action) }
      return .failed(fault.failure)
    }
    return done(action)
  }

  private mutating func done(_ action: PoolAction) -> ActionResult {
    remember()
    switch action {
    case .attachENI(_, let request):
      guard let cidrs = take(request.kind, request.count) else { return full(request.kind) }
      nextENI += 1
      guard let id = ENIID("eni-a\(nextENI)") else { return .done }
      enis[id] = ENI(device: request.device, subnet: request.subnet, cidrs: Set(cidrs), isWired: false)
      return .attached(ENIObservation(id: id, device: request.device, subnet: request.subnet, cidrs: cidrs))
    case .assign(_, let eni, let kind, let count):
      guard let cidrs = take(kind, count) else { return full(kind) }
      enis[eni]?.cidrs.formUnion(cidrs)
      return .assigned(cidrs)
    case .unassign(_, let eni, let prefixes):
      enis[eni]?.cidrs.subtract(prefixes)
      for prefix in prefixes { giveBack(prefix) }
      return .done
    case .freeENI(_, let eni):
      for prefix in enis.removeValue(forKey: eni)?.cidrs ?? [] { giveBack(prefix) }
      return .done
    case .wireENI(_, let observation):
      enis[observation.id]?.isWired = true
      return .done
    case .listENIs:
      return .listed(ENIListing(enis: listing(), askedAt: now, isAuthoritative: true))
    case .persist, .answerAdd, .answerDelete, .wake: return .done
    }
  }

  private func full(_ kind: CIDRKind) -> ActionResult {
    .failed(ActionFailure(kind == .prefix ? .noFreePrefix : .subnetFull))
  }

  /// The lowest free ones, all or nothing.
  private mutating func take(_ kind: CIDRKind, _ count: Int) -> [IPPrefix]? {
    guard count <= (kind == .prefix ? freePrefixes : freeAddresses) else { return nil }
    let used = Set(enis.values.flatMap(\.cidrs))
    let base: UInt32 = kind == .prefix ? 0x0a01_0000 : 0x0a00_0010
    let stride: UInt32 = kind == .prefix ? 16 : 1
    var found: [IPPrefix] = []
    var next = base
    while found.count < count {
      let address = IPAddress(ipv4: next)
      next += stride
      guard let prefix = IPPrefix(address: address, length: kind == .prefix ? 28 : 32), !used.contains(prefix) else {
        continue
      }
      found.append(prefix)
    }
    if kind == .prefix { freePrefixes -= count } else { freeAddresses -= count }
    return found
  }

  private mutating func giveBack(_ prefix: IPPrefix) {
    if prefix.isSingle { freeAddresses += 1 } else { freePrefixes += 1 }
  }

  /// Kills the agent and starts it again from the written checkpoint, less the pods that are gone. What was under way
  /// at EC2 happens or does not.
  mutating func restart(seed: UInt64, settings: PoolSettings? = nil) {
    var random = SplitMix64(seed: seed)
    for action in running where Bool.random(using: &random) { _ = done(action.action) }
    running = []
    waiting = [:]
    wakeAt = nil
    pool = Pool(settings: settings ?? pool.settings, seed: seed)
    document = CheckpointDocument()
    for id in enis.keys { enis[id]?.isWired = id == PoolRig.primary }
    saved.allocations.removeAll { inUse[$0.address] != $0.key }
    guard let read = Self.throughText(saved) else { return violate("the checkpoint was not read as written") }
    feed(.started(PoolStart(enis: listing(), checkpoint: read)))
  }

  private static func throughText(_ checkpoint: Checkpoint) -> Checkpoint? {
    let result = CheckpointReader.read(checkpoint.encoded())
    return result.findings.isEmpty && result.checkpoint == checkpoint ? result.checkpoint : nil
  }

  // MARK: changes behind the pool's back

  mutating func removeAtEC2(_ prefix: IPPrefix) {
    remember()
    for id in enis.keys { enis[id]?.cidrs.remove(prefix) }
    giveBack(prefix)
  }

  mutating func removeAtEC2(_ id: ENIID) {
    remember()
    for prefix in enis.removeValue(forKey: id)?.cidrs ?? [] { giveBack(prefix) }
  }

  mutating func addAtEC2(_ id: ENIID, _ prefix: IPPrefix) { enis[id]?.cidrs.insert(prefix) }

  /// A listing that nobody asked for, as the periodic comparison feeds it.
  mutating func observe(isAuthoritative: Bool) {
    feed(.observed(ENIListing(enis: listing(), askedAt: now, isAuthoritative: isAuthoritative)))
  }

  private mutating func remember() {
    history.append((now, listing()))
    let oldest = now
    history.removeAll { $0.until + .seconds(120) < oldest }
  }

  /// What IMDS says when it shows the state of a while ago.
  mutating func observe(lag: Duration) {
    let seen = history.first { $0.until + lag > now }?.listing ?? listing()
    feed(.observed(ENIListing(enis: seen, askedAt: now, isAuthoritative: false)))
  }

  /// The address of an answered ADD.
  func address(_ waiter: WaiterID) -> IPAddress? {
    if case .assigned(let assignment) = answers[waiter] { assignment.address } else { nil }
  }

  func cause(_ waiter: WaiterID) -> FailureCause? {
    if case .failed(let cause) = answers[waiter] { cause } else { nil }
  }
}

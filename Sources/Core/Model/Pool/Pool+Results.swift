// SPDX-License-Identifier: Apache-2.0

/// Handles the results of actions.
extension Pool {
  mutating func ended(_ id: ActionID, _ result: ActionResult, _ time: PoolTime, _ batch: inout Batch) {
    guard let flight = inFlight.removeValue(forKey: id) else { return }
    let now = time.instant
    pendingAddresses -= flight.supply
    if let slot = flight.work.slot, book.enis[slot].action == id {
      book.enis[slot].action = nil
      book.enis[slot].changedAt = now
    }
    tidy(from: now)
    switch (flight.work, result) {
    case (.attach(let request), .attached(let observation)):
      succeeded(.attach, flight)
      raiseCap(request.subnet)
      recent.attachedENIs[observation.id] = now + settings.timings.quarantine
      var observation = observation
      observation.cidrs = given(observation.cidrs, to: observation.id, now)
      adopt(observation, now)
      forgetOutdatedLimit()
    case (.assign(let slot, let subnet, _, _), .assigned(let prefixes)) where !prefixes.isEmpty:
      succeeded(.assign, flight)
      refusedENIs[slot] = nil
      raiseCap(subnet)
      for prefix in given(prefixes, to: book.enis[slot].id, now) { add(prefix, slot) }
    case (.unassign(let slot, let prefixes), .done):
      succeeded(.unassign, flight)
      for prefix in prefixes { removeGivenBack(prefix, slot, now) }
      batch.persist()
    case (.free(let slot), .done):
      succeeded(.free, flight)
      freed(slot, now)
      batch.persist()
    case (.wire(let slot, let wired), .done):
      unwired[slot] = nil
      if wired != Set(book.enis[slot].cidrs.map { book.cidrs[$0].prefix }) { unwired[slot] = Backoff() }
      if book.enis[slot].state == .wiring || book.enis[slot].state == .broken { book.setState(slot, .open) }
    case (.list, .listed(let listing)):
      needsListing = false
      // A rejected listing counts as a failure: it is retried with backoff.
      if reconcile(listing, now) { succeeded(.list, flight) }
      forgetOutdatedLimit()
    case (_, .failed(let failure)): failed(flight.work, failure, now)
    default: failed(flight.work, ActionFailure(.other("EC2 confirmed nothing"), mayBeDone: true), now)
    }
  }

  private mutating func succeeded(_ kind: ActionClass, _ flight: InFlight) {
    backoffs[kind.rawValue].succeeded(asked: flight.since)
  }

  /// The learned attachment limit no longer applies once more ENIs than that are attached.
  private mutating func forgetOutdatedLimit() {
    if let limit = attachmentLimit, attached > limit.attached { attachmentLimit = nil }
  }

  /// After a success the next request may ask for twice as much, until the cap has no effect.
  private mutating func raiseCap(_ subnet: SubnetID) {
    guard let cap = subnetCaps[subnet] else { return }
    subnetCaps[subnet] = cap * 2 < settings.slotsPerENI ? cap * 2 : nil
  }

  private mutating func removeGivenBack(_ prefix: IPPrefix, _ slot: Int, _ now: PoolInstant) {
    let place = Place(prefix, book.enis[slot].id)
    recent.returned[place] = now + settings.timings.quarantine
    recent.given[prefix] = nil
    if recent.lateReturns[place] != nil { recent.lateReturns[place] = now + settings.timings.quarantine }
    if let cidr = book.cidrOf[prefix], book.cidrs[cidr].slot == slot { book.removeCIDR(cidr) }
  }

  private mutating func freed(_ slot: Int, _ now: PoolInstant) {
    recent.freedENIs[book.enis[slot].id] = now + settings.timings.quarantine
    recent.attachedENIs[book.enis[slot].id] = nil
    recent.lateFrees[book.enis[slot].id] = nil
    drop(slot)
  }

  /// Removes an ENI; its addresses in use stay accounted as stray.
  mutating func drop(_ slot: Int) {
    for cidr in book.enis[slot].cidrs { book.removeCIDR(cidr) }
    unwired[slot] = nil
    refusedENIs[slot] = nil
    book.removeENI(slot)
  }

  // MARK: failures

  private mutating func failed(_ work: InFlight.Work, _ failure: ActionFailure, _ now: PoolInstant) {
    if failure.mayBeDone {
      needsListing = true
      switch work {
      case .assign(let slot, _, _, _), .wire(let slot, _): book.enis[slot].isUnclear = true
      case .attach: unclearAttachAt = now
      // Repeated: a listing cannot tell whether EC2 will still carry out the lost call.
      case .unassign, .free, .list: break
      }
    }
    switch work {
    case .attach(let request): attachFailed(request, failure, now)
    case .assign(let slot, let subnet, let kind, let count):
      assignFailed(slot, subnet, kind, count, failure, now)
    case .unassign(let slot, let prefixes): unassignFailed(slot, prefixes, failure, now)
    case .free(let slot): freeFailed(slot, failure, now)
    case .wire(let slot, _):
      if failure.fault == .eniGone { needsListing = true }
      unwired[slot, default: Backoff()].failed(
        failure.fault, words: failure.words, range: settings.timings.backoff, now: now, random: &random)
      if book.enis[slot].state == .wiring { book.setState(slot, .broken) }
    case .list: holdBack(.list, failure, now)
    }
  }

  private mutating func attachFailed(_ request: AttachRequest, _ failure: ActionFailure, _ now: PoolInstant) {
    switch failure.fault {
    case .attachmentLimit:
      let count = attached + attaching
      // Are there more than are known? The answer is the same until their number changes.
      if attachmentLimit?.attached != count { needsListing = true }
      var limit = attachmentLimit ?? AttachmentLimit(attached: count)
      limit.attached = count
      limit.backoff.failed(
        failure.fault, words: failure.words, range: settings.timings.attachmentBackoff, now: now, random: &random)
      attachmentLimit = limit
    case .deviceTaken:
      takenDevices[request.device] = now + settings.timings.takenDevice
      needsListing = true
      // The next index is tried at once, but not several in a row: each try costs three calls.
      if takenDevices.count > 1 { holdBack(.attach, failure, now) }
    default: growthFailed(.attach, request.subnet, request.kind, request.count, failure, now)
    }
  }

  private mutating func assignFailed(
    _ slot: Int, _ subnet: SubnetID, _ kind: CIDRKind, _ count: Int, _ failure: ActionFailure, _ now: PoolInstant
  ) {
    switch failure.fault {
    case .addressLimit, .eniGone:
      // Other ENIs continue, and their success says nothing about this one.
      needsListing = true
      refusedENIs[slot, default: Backoff()].failed(
        failure.fault, words: failure.words, range: settings.timings.backoff, now: now, random: &random)
    default: growthFailed(.assign, subnet, kind, count, failure, now)
    }
  }

  /// A full subnet is asked for one address before it is paused: EC2 assigns all requested addresses or none.
  private mutating func growthFailed(
    _ kind: ActionClass, _ subnet: SubnetID, _ cidr: CIDRKind, _ count: Int, _ failure: ActionFailure,
    _ now: PoolInstant
  ) {
    switch failure.fault {
    case .subnetFull where count > 1, .noFreePrefix where count > 1: subnetCaps[subnet] = 1
    case .noFreePrefix where settings.family == .ipv6, .subnetFull where settings.family == .ipv6:
      // Nothing else can serve pods: it is tried again with backoff.
      holdBack(kind, failure, now)
    case .noFreePrefix where cidr == .prefix, .subnetFull where cidr == .prefix:
      // No block of sixteen; single addresses may be left.
      fallbackSubnets[subnet] = now + settings.timings.prefixFallback
      subnetCaps[subnet] = nil
      restand(now)
    case .subnetFull, .noFreePrefix: pausedSubnets[subnet] = now + settings.timings.subnetPause
    case .addressLimit, .eniGone:
      needsListing = true
      holdBack(kind, failure, now)
    default: holdBack(kind, failure, now)
    }
  }

  private mutating func unassignFailed(
    _ slot: Int, _ prefixes: [IPPrefix], _ failure: ActionFailure, _ now: PoolInstant
  ) {
    // All or some of them are no longer assigned; the next listing shows which.
    if failure.fault == .notAssigned {
      needsListing = true
      for prefix in prefixes { removeGivenBack(prefix, slot, now) }
      isUnwritten = true
      return
    }
    let eni = book.enis[slot].id
    holdBack(.unassign, failure, now)
    if failure.fault == .eniGone { needsListing = true }
    if failure.mayBeDone || failure.fault == .eniGone {
      for prefix in prefixes { recent.lateReturns[Place(prefix, eni)] = now + settings.timings.quarantine }
      return
    }
    for prefix in prefixes {
      guard let cidr = book.cidrOf[prefix] else { continue }
      // EC2 may carry out an earlier call with a lost answer after this refusal: the call is repeated.
      if let until = recent.lateReturns[Place(prefix, eni)], until > now { continue }
      let standing = standing(of: prefix, slot: book.cidrs[cidr].slot)
      book.change(cidr) { $0.standing = standing }
    }
  }

  private mutating func freeFailed(_ slot: Int, _ failure: ActionFailure, _ now: PoolInstant) {
    // Already gone counts as success.
    if failure.fault == .eniGone { return freed(slot, now) }
    holdBack(.free, failure, now)
    let eni = book.enis[slot].id
    if failure.mayBeDone { recent.lateFrees[eni] = now + settings.timings.quarantine }
    // EC2 may carry out this or an earlier call with a lost answer later: the free is repeated.
    if let until = recent.lateFrees[eni], until > now { return tidy(from: until) }
    rewire(slot)
  }

  /// Requires verification of an ENI before its addresses are assigned again.
  mutating func rewire(_ slot: Int) {
    book.setState(slot, .wiring)
    unwired[slot] = Backoff()
  }

  mutating func holdBack(_ kind: ActionClass, _ failure: ActionFailure, _ now: PoolInstant) {
    var range = settings.timings.backoff
    if case .unauthorized = failure.fault { range = settings.timings.permissionBackoff }
    backoffs[kind.rawValue].failed(failure.fault, words: failure.words, range: range, now: now, random: &random)
  }
}

extension Pool.InFlight.Work {
  /// The ENI concerned; nil for a new ENI or for all.
  var slot: Int? {
    switch self {
    case .assign(let slot, _, _, _), .unassign(let slot, _), .free(let slot), .wire(let slot, _): slot
    case .attach, .list: nil
    }
  }
}

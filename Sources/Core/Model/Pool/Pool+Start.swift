// SPDX-License-Identifier: Apache-2.0

/// Startup: attached ENIs, allocations of the checkpoint, and unassigns that an earlier agent began.
///
/// Unassigns and detaches are written to the checkpoint before the call, because EC2 may carry out the call long after
/// the agent that made it has exited. After a restart:
///
///   being unassigned, EC2 still lists it     kept out of use and unassigned again
///   being unassigned, EC2 does not list it   quarantined: a later listing that shows it may be stale
///   being detached, EC2 still lists it       kept out of use and freed again
///   recently unassigned                      quarantined for the rest of its time
///   unassigned, but a pod has an address     the pod keeps it; no other pod gets an address there
extension Pool {
  mutating func begin(_ start: PoolStart, _ time: PoolTime, _ batch: inout Batch) {
    guard !isStarted else { return }
    isStarted = true
    let now = time.instant
    reconciledAt = now
    for (cidr, eni) in start.contested { moves[cidr] = Move(eni: eni, askedAt: now) }
    restoreQuarantine(start.checkpoint.returns, time)
    for observation in start.enis.sorted(by: { ($0.card, $0.device, $0.id) < ($1.card, $1.device, $1.id) }) {
      guard recent.freedENIs[observation.id] == nil else { continue }
      adopt(observation, now)
    }
    if !recent.returned.isEmpty { enterInUse(start) }
    if subnets.isEmpty, noSubnet == nil {
      subnets = start.enis.filter(\.isPrimary).map(\.subnet)
    }
    var isDropped = false
    for entry in start.checkpoint.allocations where !book.restore(entry) { isDropped = true }
    for entry in start.checkpoint.cooldowns {
      let left = Duration.nanoseconds(entry.untilUnixNanoseconds) - .nanoseconds(time.unixNanoseconds)
      // The system clock may have been changed: never longer than a full cooldown.
      guard left > .zero else { continue }
      book.restoreCooldown(entry.address, until: now + min(left, settings.cooldown))
    }
    if settings.usesCustomNetworking { enterOwnOfPrimary(start) }
    resumeReturns(start.checkpoint.returns, now)
    for place in start.checkpoint.beingUnassigned { recent.lateReturns[place] = now + settings.timings.quarantine }
    if start.restsUnproven { restUnproven(now) }
    if isDropped { batch.persist() }
    tidy(from: now)
  }

  /// Pods keep their addresses in quarantined CIDRs. No other pod gets one there before a later listing has shown the
  /// CIDR.
  private mutating func enterInUse(_ start: PoolStart) {
    let inUse = start.checkpoint.allocations.map(\.address)
    for observation in start.enis {
      guard let slot = book.slotOf[observation.id], book.enis[slot].state != .unmanaged else { continue }
      for prefix in observation.cidrs
      where recent.isDoubtful(prefix, on: observation.id) && inUse.contains(where: prefix.contains) {
        guard add(prefix, slot), let cidr = book.cidrOf[prefix] else { continue }
        book.change(cidr) { $0.standing = .lost }
      }
    }
  }

  /// The pods of the checkpoint show which addresses of the primary ENI belong to the agent.
  private mutating func enterOwnOfPrimary(_ start: PoolStart) {
    for observation in start.enis where observation.isPrimary {
      guard let slot = book.slotOf[observation.id] else { continue }
      for prefix in observation.cidrs where !recent.isDoubtful(prefix, on: observation.id) { add(prefix, slot) }
    }
  }

  /// A confirmed unassign stays in effect while listings may lag.
  private mutating func restoreQuarantine(_ returns: [CheckpointReturn], _ time: PoolTime) {
    for entry in returns {
      guard let until = entry.untilUnixNanoseconds else { continue }
      let left = Duration.nanoseconds(until) - .nanoseconds(time.unixNanoseconds)
      guard left > .zero else { continue }
      let end = time.instant + min(left, settings.timings.quarantine)
      switch entry.subject {
      case .eni(let eni): recent.freedENIs[eni] = end
      case .cidr(let cidr, of: let eni):
        recent.returned[Place(cidr, eni)] = end
        recent.lateReturns[Place(cidr, eni)] = end
      }
    }
  }

  /// Continues the unassigns and detaches that an earlier agent began.
  private mutating func resumeReturns(_ returns: [CheckpointReturn], _ now: PoolInstant) {
    let lag = settings.timings.quarantine
    for entry in returns where entry.untilUnixNanoseconds == nil {
      switch entry.subject {
      case .eni(let eni):
        guard let slot = book.slotOf[eni], !isInUse(slot), !book.enis[slot].observation.isPrimary,
          book.enis[slot].state != .unmanaged
        else { continue }
        unwired[slot] = nil
        book.setState(slot, .freeing)
        recent.lateFrees[eni] = now + lag
        book.enis[slot].changedAt = now + lag
      case .cidr(let cidr, of: let eni):
        guard let known = book.cidrOf[cidr] else {
          recent.returned[Place(cidr, eni)] = now + lag
          continue
        }
        let slot = book.cidrs[known].slot
        guard book.enis[slot].id == eni, book.cidrs[known].assigned == 0 else { continue }
        book.change(known) { $0.standing = .leaving }
        book.enis[slot].changedAt = now + lag
      }
    }
  }

  private func isInUse(_ slot: Int) -> Bool {
    book.slots[slot].usable.assigned > 0 || book.slots[slot].aside.assigned > 0
  }

  /// IMDS lags, and unassigns of an earlier agent are unknown: only addresses in use are known to be the node's.
  mutating func restUnproven(_ now: PoolInstant) {
    for cidr in Array(book.cidrOf.keys).sorted() {
      for offset in 0..<min(cidr.count, PoolSettings.addressesPerPrefix) {
        guard let address = cidr.address(at: offset) else { continue }
        book.restoreCooldown(address, until: now + settings.timings.quarantine)
      }
    }
  }

  /// Unassigns in progress or recent ones, for the checkpoint.
  package func returns(now time: PoolTime) -> [CheckpointReturn] {
    var returns: [CheckpointReturn] = []
    for (slot, eni) in book.enis.enumerated() where eni.isPresent {
      if eni.state == .freeing { returns.append(CheckpointReturn(.eni(eni.id))) }
      guard book.slots[slot].aside.cidrs > 0 else { continue }
      for cidr in eni.cidrs where book.cidrs[cidr].standing == .leaving {
        returns.append(CheckpointReturn(.cidr(book.cidrs[cidr].prefix, of: eni.id)))
      }
    }
    for (eni, until) in recent.freedENIs where until > time.instant {
      returns.append(
        CheckpointReturn(.eni(eni), untilUnixNanoseconds: time.unixNanoseconds(after: until - time.instant)))
    }
    for (place, until) in recent.returned.merging(recent.lateReturns, uniquingKeysWith: max) where until > time.instant
    {
      // Leaving CIDRs are already included above.
      if let known = book.cidrOf[place.cidr], book.cidrs[known].standing == .leaving,
        book.enis[book.cidrs[known].slot].id == place.eni
      {
        continue
      }
      let unix = time.unixNanoseconds(after: until - time.instant)
      returns.append(CheckpointReturn(.cidr(place.cidr, of: place.eni), untilUnixNanoseconds: unix))
    }
    return returns
  }
}

extension Checkpoint {
  /// Addresses and prefixes that an earlier agent was unassigning when it exited.
  fileprivate var beingUnassigned: [Place] {
    returns.compactMap { entry in
      guard entry.untilUnixNanoseconds == nil, case .cidr(let cidr, of: let eni) = entry.subject else { return nil }
      return Place(cidr, eni)
    }
  }
}

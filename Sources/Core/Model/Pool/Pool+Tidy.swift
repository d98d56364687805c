// SPDX-License-Identifier: Apache-2.0

/// Tidying: unassigns idle addresses beyond the targets and leftovers of the other mode, frees idle ENIs.
///
/// Addresses in cooldown are not unassigned: EC2 might assign them to another node while peers still send to them.
extension Pool {
  /// Looks for idle addresses and ENIs once that instant has come, at most once a second, since it scans everything.
  mutating func tidy(from instant: PoolInstant) {
    let earliest = tidiedAt.map { max(instant, $0 + .seconds(1)) } ?? instant
    tidyAt = min(tidyAt ?? earliest, earliest)
  }

  mutating func tidy(_ now: PoolInstant, _ batch: inout Batch) {
    tidyAt = nil
    tidiedAt = now
    if let last = book.cooling.last { tidy(from: last.until) }
    guard mayProvision, queue.isEmpty else { return }
    if let expected = turnedAway.latest { return tidy(from: expected) }
    if !inFlight.values.contains(where: { $0.work.actionClass == .free }) {
      let due = backoffs[ActionClass.free.rawValue].dueAt(urgent: false) ?? now
      if due > now { tidy(from: due) } else if !freeAgain(&batch) { freeENI(now, &batch) }
    }
    let due = max(shrinkAt ?? now, backoffs[ActionClass.unassign.rawValue].dueAt(urgent: false) ?? now)
    if due <= now { shrink(now, &batch) } else if hasSurplus { tidy(from: due) }
  }

  /// Drops a removed CIDR once its last pod is gone.
  mutating func dropLost() {
    for slot in book.enis.indices where book.enis[slot].isPresent {
      for cidr in book.enis[slot].cidrs where book.cidrs[cidr].standing == .lost && book.cidrs[cidr].isIdle {
        book.removeCIDR(cidr)
        wireAgain(slot)
      }
      if book.enis[slot].state == .lost, book.enis[slot].cidrs.isEmpty { drop(slot) }
    }
  }

  private var hasSurplus: Bool {
    targets.surplus > 0
      || book.cidrs.contains {
        ($0.standing == .draining || $0.standing == .leaving) && $0.isIdle && mayGiveBack($0.slot)
      }
  }

  private func mayGiveBack(_ slot: Int) -> Bool {
    let eni = book.enis[slot]
    return eni.state == .open && eni.observation.isManaged && eni.observation.isConfirmed
  }

  // MARK: whole ENIs

  /// Repeats the free of an ENI: the answer was lost, or an earlier agent began it.
  private mutating func freeAgain(_ batch: inout Batch) -> Bool {
    guard let slot = book.enis.firstIndex(where: { $0.state == .freeing && $0.action == nil }) else { return false }
    free(slot, &batch)
    return true
  }

  /// Written to the checkpoint before the call: a late detach must not hit a pod.
  private mutating func free(_ slot: Int, _ batch: inout Batch) {
    let id = start(.free(slot: slot))
    book.enis[slot].action = id
    book.setState(slot, .freeing)
    batch.persist()
    batch.work.append(.freeENI(id, book.enis[slot].id))
  }

  /// Frees the idle ENI in the highest slot that is old enough, if the other ENIs meet the targets with their current
  /// addresses.
  private mutating func freeENI(_ now: PoolInstant, _ batch: inout Batch) {
    var targets = targets
    targets.total -= pendingAddresses
    let isReplaceable = !backoffs[ActionClass.attach.rawValue].isHolding(now, urgent: false)
    guard targets.shortage == 0, mayFreeENIs else { return }
    // A listing showed CIDRs on them that pods may use: another listing decides.
    let contested = Set(recent.unproven.values).union(moves.values.map(\.eni))
    for slot in book.enis.indices.reversed() where isFreeable(slot) && !contested.contains(book.enis[slot].id) {
      // An outdated ENI is freed anyway: an ENI in the right subnet replaces it.
      guard isOutdated(slot) && isReplaceable || targets.without(book.slots[slot].usable).shortage == 0 else {
        continue
      }
      let oldEnough = book.enis[slot].since + settings.timings.minimumENIAge
      guard oldEnough <= now else {
        tidy(from: oldEnough)
        continue
      }
      return free(slot, &batch)
    }
  }

  private func isFreeable(_ slot: Int) -> Bool {
    let eni = book.enis[slot]
    let counts = book.slots[slot]
    return eni.state == .open && eni.action == nil && eni.observation.isManaged && eni.observation.isConfirmed
      && !eni.observation.isPrimary && !eni.observation.isTrunk
      && !eni.observation.isEFA && counts.usable.assigned == 0 && counts.usable.cooling == 0
      && counts.aside.assigned == 0 && counts.aside.cooling == 0
  }

  // MARK: addresses

  /// Unassigns idle leftovers of the other mode if pods wait for the slots that they take.
  mutating func makeRoom(_ now: PoolInstant, _ batch: inout Batch) {
    guard mayProvision, targets.urgentShortage > 0, places(now) <= 0 else { return }
    if let due = backoffs[ActionClass.unassign.rawValue].dueAt(urgent: true), due > now { return tidy(from: due) }
    for slot in book.enis.indices where book.enis[slot].state == .open && book.enis[slot].action == nil && mayGrow(slot)
    {
      let leaving = book.enis[slot].cidrs.filter {
        let cidr = book.cidrs[$0]
        return cidr.isIdle && (cidr.standing == .draining || cidr.standing == .leaving)
      }
      if !leaving.isEmpty { unassign(leaving, slot, &batch) }
    }
  }

  /// CIDRs of an ENI that can be unassigned, or are being unassigned, to make room for others.
  func clearable(_ slot: Int) -> Int {
    guard book.enis[slot].state == .open || book.enis[slot].state == .wiring, mayGrow(slot) else { return 0 }
    return book.enis[slot].cidrs.count {
      let cidr = book.cidrs[$0]
      return cidr.isIdle && (cidr.standing == .draining || cidr.standing == .leaving)
    }
  }

  /// One request for each ENI touched, the highest places first, so that ENIs become idle.
  private mutating func shrink(_ now: PoolInstant, _ batch: inout Batch) {
    var (surplus, spare) = (targets.surplus, targets.spare)
    // The replacement of leftovers may fail: then they are still of use.
    let gathered = gatheredAt ?? now
    if gathered > now { tidy(from: gathered) }
    let mayDrain = gathered <= now && !inFlight.values.contains { $0.supply > 0 }
    var isAny = false
    for slot in book.enis.indices.reversed() {
      guard mayGiveBack(slot), book.enis[slot].action == nil else { continue }
      var leaving: [Int] = []
      for cidr in book.enis[slot].cidrs where book.cidrs[cidr].isIdle {
        switch book.cidrs[cidr].standing {
        case .draining where mayDrain: leaving.append(cidr)
        case .leaving: leaving.append(cidr)
        case .usable where surplus > 0 && book.cidrs[cidr].capacity <= spare:
          leaving.append(cidr)
          surplus -= 1
          spare -= book.cidrs[cidr].capacity
        default: break
        }
      }
      guard !leaving.isEmpty else { continue }
      isAny = true
      unassign(leaving, slot, &batch)
    }
    if isAny {
      shrinkAt = now + settings.timings.shrinkInterval
      tidy(from: now + settings.timings.shrinkInterval)
    }
  }

  private mutating func unassign(_ leaving: [Int], _ slot: Int, _ batch: inout Batch) {
    for cidr in leaving { book.change(cidr) { $0.standing = .leaving } }
    let prefixes = leaving.map { book.cidrs[$0].prefix }.sorted()
    let id = start(.unassign(slot: slot, prefixes))
    book.enis[slot].action = id
    // Written to the checkpoint before the call: a late unassign must not hit a pod.
    batch.persist()
    batch.work.append(.unassign(id, book.enis[slot].id, prefixes))
  }
}

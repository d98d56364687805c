// SPDX-License-Identifier: Apache-2.0

/// What is attached: at the start, and whenever a listing says so.
extension Pool {
  mutating func begin(_ start: PoolStart, _ time: PoolTime, _ batch: inout Batch) {
    guard !isStarted else { return }
    isStarted = true
    let now = time.instant
    reconciledAt = now
    for observation in start.enis.sorted(by: { ($0.card, $0.device, $0.id) < ($1.card, $1.device, $1.id) }) {
      adopt(observation, now)
    }
    if subnets.isEmpty, noSubnet == nil {
      subnets = start.enis.filter(\.isPrimary).map(\.subnet)
    }
    var isDropped = false
    for entry in start.checkpoint.allocations where !book.restore(entry) { isDropped = true }
    for entry in start.checkpoint.cooldowns {
      let left = Duration.nanoseconds(entry.untilUnixNanoseconds) - .nanoseconds(time.unixNanoseconds)
      // The calendar may have been set: never longer than a whole cooldown.
      guard left > .zero else { continue }
      book.restoreCooldown(entry.address, until: now + min(left, settings.cooldown))
    }
    if isDropped { batch.persist() }
    tidy(from: now)
  }

  /// Enters an ENI, or what is new of a known one.
  mutating func adopt(_ observation: ENIObservation, _ now: PoolInstant) {
    if let slot = book.slotOf[observation.id] {
      for prefix in observation.cidrs { add(prefix, slot) }
      return
    }
    guard observation.isManaged else {
      _ = book.addENI(observation, state: .unmanaged, now: now)
      return
    }
    let slot = book.addENI(observation, state: observation.isWired ? .open : .wiring, now: now)
    if !observation.isWired { unwired[slot] = Backoff() }
    for prefix in observation.cidrs { add(prefix, slot) }
    tidy(from: now)
  }

  /// Enters a CIDR; one that another ENI has, or that is the ENI's own address, is not believed.
  mutating func add(_ prefix: IPPrefix, _ slot: Int) {
    if let own = book.enis[slot].observation.primaryAddress, prefix.contains(own) { return }
    // Taken away under a pod, and now here: the pod's address is this ENI's.
    if let lost = book.cidrOf[prefix], book.cidrs[lost].standing == .lost { book.removeCIDR(lost) }
    book.addCIDR(prefix, slot: slot, standing: standing(of: prefix, slot: slot))
  }

  /// EC2 has just given CIDRs to an ENI (nil: a new one). Another that was thought to have one has it no more: the answer
  /// to its return was lost, or it was taken away.
  mutating func given(_ prefixes: [IPPrefix], to slot: Int?) {
    for prefix in prefixes {
      quarantine[prefix] = nil
      if let cidr = book.cidrOf[prefix], book.cidrs[cidr].slot != slot { lose(cidr: cidr) }
    }
  }

  /// Whether new pods may get addresses of a CIDR.
  func standing(of prefix: IPPrefix, slot: Int) -> CIDRRecord.Standing {
    let eni = book.enis[slot].observation
    if eni.isExcluded || !eni.isManaged || (eni.isPrimary && settings.usesCustomNetworking) { return .draining }
    if settings.usesPrefixes { return prefix.isSingle && fallbackSubnets.isEmpty ? .draining : .usable }
    return prefix.isSingle ? .usable : .draining
  }

  /// Judges every CIDR anew after the rule changed.
  mutating func restand(_ now: PoolInstant) {
    for slot in book.enis.indices where book.enis[slot].isPresent {
      for cidr in book.enis[slot].cidrs {
        let current = book.cidrs[cidr].standing
        guard current == .usable || current == .draining else { continue }
        let wanted = standing(of: book.cidrs[cidr].prefix, slot: slot)
        if wanted != current { book.change(cidr) { $0.standing = wanted } }
      }
    }
    tidy(from: now)
  }

  /// Compares a listing with the book. EC2 is believed in both directions, IMDS never: it lags, so a difference only
  /// leads to asking EC2, and the same difference only once. What was given back a moment ago is believed to be gone
  /// whoever shows it: EC2's listings lag too, and another node may have the address by now.
  mutating func reconcile(_ listing: ENIListing, _ now: PoolInstant) {
    for (prefix, until) in quarantine where until <= now { quarantine[prefix] = nil }
    for (eni, until) in freedENIs where until <= now { freedENIs[eni] = nil }
    let seen = Set(listing.enis.map(\.id))
    // A listing without the primary ENI contradicts itself: an instance cannot be without it.
    guard book.enis.allSatisfy({ !$0.isPresent || !$0.observation.isPrimary || seen.contains($0.id) }) else {
      needsListing = true
      holdBack(.list, .other("EC2 listed the ENIs without the primary one"), now)
      return
    }
    reconciledAt = max(reconciledAt ?? listing.askedAt, listing.askedAt)
    for slot in book.enis.indices where isSettled(slot, listing) {
      let eni = book.enis[slot]
      guard eni.state != .lost, !seen.contains(eni.id) else { continue }
      guard listing.isAuthoritative else {
        doubt(eni.id, known: known(slot), shown: nil)
        continue
      }
      lose(slot)
    }
    // First all that went, then all that came: a CIDR may have gone from one ENI to another.
    var found: [(slot: Int, cidrs: [IPPrefix])] = []
    for observation in listing.enis {
      guard let slot = book.slotOf[observation.id], isSettled(slot, listing) else { continue }
      found.append((slot, compare(slot, observation, listing, now)))
    }
    for (slot, cidrs) in found { for prefix in cidrs { add(prefix, slot) } }
    for observation in listing.enis where book.slotOf[observation.id] == nil && freedENIs[observation.id] == nil {
      if listing.isAuthoritative {
        adopt(observation, now)
      } else if observation.isManaged {
        doubt(observation.id, known: nil, shown: Set(observation.cidrs))
      }
    }
    // What neither IMDS nor the pool has any more is no difference.
    if !listing.isAuthoritative { doubts = doubts.filter { seen.contains($0.key) || book.slotOf[$0.key] != nil } }
    if listing.isAuthoritative, let unclearAttachAt, unclearAttachAt <= listing.askedAt { self.unclearAttachAt = nil }
    if unclearAttachAt != nil || book.enis.contains(where: { $0.isPresent && $0.isUnclear }) { needsListing = true }
    tidy(from: now)
  }

  /// Whether the listing can know the ENI as it is now; IMDS may show for a minute what was before.
  private func isSettled(_ slot: Int, _ listing: ENIListing) -> Bool {
    let eni = book.enis[slot]
    let lag = listing.isAuthoritative ? .zero : settings.timings.quarantine
    return eni.isPresent && eni.action == nil && eni.changedAt + lag <= listing.askedAt
  }

  private func known(_ slot: Int) -> Set<IPPrefix> {
    Set(book.enis[slot].cidrs.filter { book.cidrs[$0].standing != .lost }.map { book.cidrs[$0].prefix })
  }

  /// IMDS shows something else than is known: EC2 is asked, unless it has been asked about this very difference.
  private mutating func doubt(_ eni: ENIID, known: Set<IPPrefix>?, shown: Set<IPPrefix>?) {
    let new = Doubt(known: known, shown: shown)
    guard doubts[eni] != new else { return }
    doubts[eni] = new
    needsListing = true
  }

  /// - Returns: the CIDRs that are to be entered.
  private mutating func compare(
    _ slot: Int, _ seen: ENIObservation, _ listing: ENIListing, _ now: PoolInstant
  ) -> [IPPrefix] {
    guard book.enis[slot].state != .unmanaged else { return [] }
    let shown = Set(seen.cidrs)
    guard listing.isAuthoritative else {
      let known = known(slot)
      let isNew = shown.subtracting(known).contains { quarantine[$0] == nil }
      if isNew || !known.isSubset(of: shown) {
        doubt(seen.id, known: known, shown: shown)
      } else {
        doubts[seen.id] = nil
      }
      return []
    }
    if book.enis[slot].state == .freeing || book.enis[slot].state == .lost { rewire(slot) }
    // After a lost answer only EC2 can say: it may have assigned anew what was given back a moment ago.
    let isUnclear = book.enis[slot].isUnclear
    book.enis[slot].isUnclear = false
    book.enis[slot].observation.isExcluded = seen.isExcluded
    if book.enis[slot].observation.primaryAddress == nil {
      book.enis[slot].observation.primaryAddress = seen.primaryAddress
    }
    // Tags and types are not in IMDS: a start without EC2 learns of them here.
    book.enis[slot].observation.isTrunk = seen.isTrunk
    book.enis[slot].observation.isManaged = seen.isManaged || seen.isPrimary
    for cidr in book.enis[slot].cidrs {
      let record = book.cidrs[cidr]
      if shown.contains(record.prefix) {
        let standing = standing(of: record.prefix, slot: slot)
        if standing != record.standing { book.change(cidr) { $0.standing = standing } }
      } else {
        lose(cidr: cidr)
      }
    }
    return seen.cidrs.filter { isUnclear || quarantine[$0] == nil }
  }

  /// EC2 took a CIDR away. What pods still use stays accounted until they go.
  private mutating func lose(cidr: Int) {
    let assigned = book.cidrs[cidr].assigned
    guard assigned > 0 else { return book.removeCIDR(cidr) }
    if book.cidrs[cidr].standing != .lost { forcedRemovals.addresses += assigned }
    book.change(cidr) { $0.standing = .lost }
  }

  /// An ENI went without being asked to.
  private mutating func lose(_ slot: Int) {
    if book.slots[slot].usable.assigned + book.slots[slot].aside.assigned > 0 { forcedRemovals.enis += 1 }
    for cidr in book.enis[slot].cidrs { lose(cidr: cidr) }
    unwired[slot] = nil
    if book.enis[slot].cidrs.isEmpty { drop(slot) } else { book.setState(slot, .lost) }
  }

  /// Asks for wiring of ENIs that have none.
  mutating func wire(_ now: PoolInstant, _ batch: inout Batch) {
    for (slot, backoff) in unwired.sorted(by: { $0.key < $1.key }) {
      guard book.enis[slot].action == nil, !backoff.isHolding(now, urgent: true) else { continue }
      let id = start(.wire(slot: slot))
      book.enis[slot].action = id
      batch.work.append(.wireENI(id, book.enis[slot].observation))
    }
  }

  /// Asks EC2 for everything that is attached.
  mutating func list(_ now: PoolInstant, _ batch: inout Batch) {
    guard !inFlight.values.contains(where: { $0.work.actionClass == .list }),
      !backoffs[ActionClass.list.rawValue].isHolding(now, urgent: true)
    else { return }
    batch.work.append(.listENIs(start(.list)))
  }
}

// SPDX-License-Identifier: Apache-2.0

/// What is attached, whenever a listing says so.
///
/// A listing can be stale or incomplete. What it says decides what is given out; what running pods use is only ever
/// written off in the book (`lost`), stays where it is in the kernel, and is asked about until EC2 shows it again or the
/// pods are gone (`Inquiry`).
extension Pool {
  /// Enters an ENI, or what is new of a known one.
  mutating func adopt(_ observation: ENIObservation, _ now: PoolInstant) {
    if let slot = book.slotOf[observation.id] {
      var isNew = false
      for prefix in observation.cidrs where add(prefix, slot) { isNew = true }
      if isNew, book.enis[slot].state == .open { rewire(slot) }
      return
    }
    guard observation.isManaged else {
      _ = book.addENI(observation, state: .unmanaged, now: now)
      return
    }
    var known = observation
    known.cidrs = observation.cidrs.filter { !isSpared($0, of: observation) }
    let slot = book.addENI(known, state: observation.isWired ? .open : .wiring, now: now)
    if !observation.isWired { unwired[slot] = Backoff() }
    for prefix in observation.cidrs where !recent.isDoubtful(prefix) { add(prefix, slot) }
    tidy(from: now)
  }

  /// Enters a CIDR; one that another ENI has, or that is the ENI's own address, is not believed.
  ///
  /// - Returns: whether it is new.
  @discardableResult
  mutating func add(_ prefix: IPPrefix, _ slot: Int) -> Bool {
    if let own = book.enis[slot].observation.primaryAddress, prefix.contains(own) { return false }
    if isSpared(prefix, of: book.enis[slot].observation) { return false }
    // Taken away under a pod, and now here: the pod's address is this ENI's.
    if let lost = book.cidrOf[prefix], book.cidrs[lost].standing == .lost { book.removeCIDR(lost) }
    return book.addCIDR(prefix, slot: slot, standing: standing(of: prefix, slot: slot)) != nil
  }

  /// Enters a CIDR that a listing shows on an ENI. One that pods use on another ENI moves when a later listing says the
  /// same: a stale one shows where it was before.
  private mutating func enter(_ prefix: IPPrefix, _ slot: Int, _ listing: ENIListing) -> Bool {
    let eni = book.enis[slot].id
    let isElsewhere = book.cidrOf[prefix].map { book.cidrs[$0].slot != slot && book.cidrs[$0].assigned > 0 } ?? false
    // At the start the kernel led its pods by another ENI than the listing showed.
    let isContested = moves[prefix]?.eni == eni && book.strays.keys.contains(where: prefix.contains)
    if isElsewhere || isContested {
      guard let move = moves[prefix], move.eni == eni else {
        moves[prefix] = Move(eni: eni, askedAt: listing.askedAt)
        return false
      }
      guard move.askedAt + Move.confirmation <= listing.askedAt else { return false }
    }
    moves[prefix] = nil
    recent.returned[prefix] = nil
    return add(prefix, slot)
  }

  /// What the kernel must lead for an ENI: everything that the book has of it. What EC2 took away is led as long as pods
  /// use it.
  func observation(of slot: Int) -> ENIObservation {
    var observation = book.enis[slot].observation
    observation.cidrs = book.enis[slot].cidrs.map { book.cidrs[$0].prefix }.sorted()
    return observation
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
  /// leads to asking EC2, again and again while the difference lasts. What was given back a moment ago is believed to be
  /// gone whoever shows it: EC2's listings lag too, and another node may have the address by now.
  ///
  /// - Returns: false where the listing could not settle what it was asked for.
  @discardableResult
  mutating func reconcile(_ listing: ENIListing, _ now: PoolInstant) -> Bool {
    // By when it was asked for: what is on its way may be as old as that.
    recent.expire(before: listing.askedAt)
    let seen = Set(listing.enis.map(\.id))
    // A listing without the primary ENI contradicts itself: an instance cannot be without it.
    guard book.enis.allSatisfy({ !$0.isPresent || !$0.observation.isPrimary || seen.contains($0.id) }) else {
      needsListing = true
      holdBack(.list, ActionFailure(.other("EC2 listing lacks the primary ENI")), now)
      return false
    }
    reconciledAt = max(reconciledAt ?? listing.askedAt, listing.askedAt)
    if listing.isAuthoritative { noteUnproven(listing) }
    for slot in book.enis.indices where isSettled(slot, listing) {
      let eni = book.enis[slot]
      guard eni.state != .lost, !seen.contains(eni.id), recent.attachedENIs[eni.id] == nil else { continue }
      guard listing.isAuthoritative else {
        doubt(eni.id, known: known(slot), shown: nil, now)
        continue
      }
      lose(slot)
    }
    // First all that went, then all that came: a CIDR may have gone from one ENI to another.
    var found: [(slot: Int, cidrs: [IPPrefix])] = []
    var gone: [IPPrefix] = []
    for observation in listing.enis {
      guard let slot = book.slotOf[observation.id], isSettled(slot, listing) else { continue }
      found.append((slot, compare(slot, observation, listing, now, &gone)))
    }
    for (slot, cidrs) in found {
      var isNew = false
      for prefix in cidrs where enter(prefix, slot, listing) { isNew = true }
      // The kernel does not lead it yet, or leads it to another ENI.
      if isNew, book.enis[slot].state == .open { rewire(slot) }
    }
    // Of two listings that differ one is stale: until it is known which, nobody gets it. What is on another ENI by now has
    // been entered, or moves.
    if !gone.isEmpty {
      let shown = Set(listing.enis.flatMap(\.cidrs))
      for prefix in gone where !shown.contains(prefix) { recent.returned[prefix] = now + settings.timings.quarantine }
      isUnwritten = true
    }
    for observation in listing.enis where book.slotOf[observation.id] == nil && recent.freedENIs[observation.id] == nil
    {
      if listing.isAuthoritative {
        recent.attachedENIs[observation.id] = now + settings.timings.quarantine
        adopt(observation, now)
      } else if observation.isManaged {
        doubt(observation.id, known: nil, shown: Set(observation.cidrs), now)
      }
    }
    // What neither IMDS nor the pool has any more is no difference.
    if !listing.isAuthoritative { doubts = doubts.filter { seen.contains($0.key) || book.slotOf[$0.key] != nil } }
    if listing.isAuthoritative { inquiry.answered() }
    if listing.isAuthoritative, let unclearAttachAt, unclearAttachAt <= listing.askedAt { self.unclearAttachAt = nil }
    tidy(from: now)
    guard unclearAttachAt != nil || book.enis.contains(where: { $0.isPresent && $0.isUnclear }) else { return true }
    needsListing = true
    if listing.isAuthoritative {
      holdBack(.list, ActionFailure(.other("outcome of an EC2 call is not clear yet")), now)
    }
    return false
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

  /// IMDS shows something else than is known: EC2 is asked.
  private mutating func doubt(
    _ eni: ENIID, known: Set<IPPrefix>?, shown: Set<IPPrefix>?, _ now: PoolInstant
  ) {
    guard var old = doubts[eni], old.known == known, old.shown == shown else {
      doubts[eni] = Doubt(known: known, shown: shown, now: now)
      needsListing = true
      return
    }
    if old.isDue(now) { needsListing = true }
    doubts[eni] = old
  }

  /// - Returns: the CIDRs that are to be entered.
  private mutating func compare(
    _ slot: Int, _ seen: ENIObservation, _ listing: ENIListing, _ now: PoolInstant, _ gone: inout [IPPrefix]
  ) -> [IPPrefix] {
    if book.enis[slot].state == .unmanaged {
      guard listing.isAuthoritative else { return [] }
      return compareUnmanaged(slot, seen)
    }
    let shown = Set(seen.cidrs.filter { !isSpared($0, of: book.enis[slot].observation) })
    guard listing.isAuthoritative else {
      let known = known(slot)
      let isNew = shown.subtracting(known).contains { !recent.isDoubtful($0) }
      if isNew || !known.isSubset(of: shown.union(recent.given.keys)) {
        doubt(seen.id, known: known, shown: shown, now)
      } else {
        doubts[seen.id] = nil
      }
      return []
    }
    if book.enis[slot].state == .freeing {
      // It is freed again; where nothing may be asked of EC2, the listing is old enough to be believed.
      guard !settings.provisions else { return [] }
      rewire(slot)
    }
    if book.enis[slot].state == .lost { rewire(slot) }
    book.enis[slot].isUnclear = false
    book.enis[slot].update {
      $0.isExcluded = seen.isExcluded
      if $0.primaryAddress == nil { $0.primaryAddress = seen.primaryAddress }
      // Tags and types are not in IMDS: a start without EC2 learns of them here.
      $0.isTrunk = seen.isTrunk
      $0.isEFA = seen.isEFA
      $0.isManaged = seen.isManaged || seen.isPrimary
      $0.isConfirmed = $0.isConfirmed || seen.isConfirmed
    }
    for cidr in book.enis[slot].cidrs {
      let record = book.cidrs[cidr]
      if shown.contains(record.prefix) {
        moves[record.prefix] = nil
        // The call that gives it back may still be carried out: it is made again.
        if record.standing == .leaving, settings.provisions { continue }
        if record.standing == .lost, recent.returned[record.prefix] != nil { continue }
        let standing = standing(of: record.prefix, slot: slot)
        if standing != record.standing { book.change(cidr) { $0.standing = standing } }
      } else if recent.given[record.prefix] == nil {
        if record.standing != .lost { gone.append(record.prefix) }
        lose(cidr: cidr)
        wireAgain(slot)
      }
    }
    return seen.cidrs.filter { !recent.isDoubtful($0) }
  }

  /// EC2 has shown an ENI that was not managed: IMDS alone did not say that it may be.
  private mutating func compareUnmanaged(_ slot: Int, _ seen: ENIObservation) -> [IPPrefix] {
    guard seen.isManaged else {
      book.enis[slot].update { $0.isConfirmed = true }
      return []
    }
    book.enis[slot].update { $0 = seen }
    rewire(slot)
    return seen.cidrs.filter { !recent.isDoubtful($0) }
  }

  /// EC2 took a CIDR away. What pods still use stays accounted until they go.
  mutating func lose(cidr: Int) {
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

  /// Lets the kernel follow the book: what the ENI does not have any more goes out of the source map.
  mutating func wireAgain(_ slot: Int) {
    if book.enis[slot].state == .open, unwired[slot] == nil { unwired[slot] = Backoff() }
  }

  /// Asks for wiring of ENIs that have none, or not what the book says.
  mutating func wire(_ now: PoolInstant, _ batch: inout Batch) {
    for (slot, backoff) in unwired.sorted(by: { $0.key < $1.key }) {
      guard book.enis[slot].action == nil, !backoff.isHolding(now, urgent: true) else { continue }
      let wanted = observation(of: slot)
      // Of two wirings that name one CIDR the later one must be the last.
      guard !isBeingWired(wanted.cidrs, exceptOf: slot) else { continue }
      let id = start(.wire(slot: slot, Set(wanted.cidrs)))
      book.enis[slot].action = id
      batch.work.append(.wireENI(id, wanted))
    }
  }

  /// Whether a wiring of another ENI is under way that names one of these: it was asked for before they moved.
  func isBeingWired(_ cidrs: [IPPrefix], exceptOf slot: Int) -> Bool {
    inFlight.values.contains { flight in
      guard case .wire(let other, let wired) = flight.work, other != slot else { return false }
      return cidrs.contains(where: wired.contains)
    }
  }

  /// Asks EC2 for everything that is attached.
  mutating func list(_ now: PoolInstant, _ batch: inout Batch) {
    guard !inFlight.values.contains(where: { $0.work.actionClass == .list }),
      !backoffs[ActionClass.list.rawValue].isHolding(now, urgent: isListingUrgent)
    else { return }
    batch.work.append(.listENIs(start(.list)))
  }

  /// Whether growth waits for a listing. A question about what running pods use can wait: the kernel keeps it meanwhile.
  var isListingUrgent: Bool {
    !queue.isEmpty || unclearAttachAt != nil || book.enis.contains { $0.isPresent && $0.isUnclear }
  }
}

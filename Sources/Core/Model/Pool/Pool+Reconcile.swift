// SPDX-License-Identifier: Apache-2.0

/// Reconciles the book with listings.
///
/// A listing can be stale or incomplete. It decides which addresses are assigned to new pods. Addresses of running pods
/// that it lacks are only marked `lost` in the book, keep their routes in the kernel, and are asked about until EC2
/// shows them again or the pods are gone (`Inquiry`).
extension Pool {
  /// Adds an ENI, or the new attributes of a known one.
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
    for prefix in observation.cidrs where !recent.isDoubtful(prefix, on: observation.id) { add(prefix, slot) }
    tidy(from: now)
  }

  /// Adds a CIDR; one that another ENI has, or that is the ENI's own address, is ignored.
  ///
  /// - Returns: whether it is new.
  @discardableResult
  mutating func add(_ prefix: IPPrefix, _ slot: Int) -> Bool {
    if let own = book.enis[slot].observation.primaryAddress, prefix.contains(own) { return false }
    if isSpared(prefix, of: book.enis[slot].observation) { return false }
    // The CIDR was removed under a pod and now appears here: the pod's address belongs to this ENI.
    if let lost = book.cidrOf[prefix], book.cidrs[lost].standing == .lost { book.removeCIDR(lost) }
    return book.addCIDR(prefix, slot: slot, standing: standing(of: prefix, slot: slot)) != nil
  }

  /// Adds a CIDR that a listing shows on an ENI. A CIDR in use on another ENI moves only when a later listing confirms
  /// it: a stale listing shows the old place.
  private mutating func enter(_ prefix: IPPrefix, _ slot: Int, _ listing: ENIListing) -> Bool {
    let eni = book.enis[slot].id
    let isElsewhere = book.cidrOf[prefix].map { book.cidrs[$0].slot != slot && book.cidrs[$0].assigned > 0 } ?? false
    // At startup the kernel routed its pods by a different ENI than the listing showed.
    let isContested = moves[prefix]?.eni == eni && book.strays.keys.contains(where: prefix.contains)
    if isElsewhere || isContested {
      guard let move = moves[prefix], move.eni == eni else {
        moves[prefix] = Move(eni: eni, askedAt: listing.askedAt)
        return false
      }
      guard move.askedAt + Move.confirmation <= listing.askedAt else { return false }
    }
    moves[prefix] = nil
    return add(prefix, slot)
  }

  /// The sources that the kernel must route by an ENI: all its CIDRs in the book, including removed ones that pods
  /// still use.
  func observation(of slot: Int) -> ENIObservation {
    var observation = book.enis[slot].observation
    observation.cidrs = book.enis[slot].cidrs.map { book.cidrs[$0].prefix }.sorted()
    return observation
  }

  /// Whether new pods may get addresses from a CIDR.
  func standing(of prefix: IPPrefix, slot: Int) -> CIDRRecord.Standing {
    let eni = book.enis[slot].observation
    if eni.isExcluded || !eni.isManaged || (eni.isPrimary && settings.usesCustomNetworking) { return .draining }
    if settings.usesPrefixes { return prefix.isSingle && fallbackSubnets.isEmpty ? .draining : .usable }
    return prefix.isSingle ? .usable : .draining
  }

  /// Re-evaluates every CIDR after the rule changed.
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

  /// Compares a listing with the book. EC2 is believed for additions and removals. IMDS lags, so a difference only
  /// leads to asking EC2, repeatedly while it lasts. A recently unassigned CIDR counts as gone even if a listing shows
  /// it: EC2's listings lag too, and another node may have the address by now.
  ///
  /// - Returns: false if the listing did not settle the question that it was requested for.
  @discardableResult
  mutating func reconcile(_ listing: ENIListing, _ now: PoolInstant) -> Bool {
    // Compared with the request time: a listing may be as old as that.
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
    var gone: [Place] = []
    for observation in listing.enis {
      guard let slot = book.slotOf[observation.id], isSettled(slot, listing) else { continue }
      found.append((slot, compare(slot, observation, listing, now, &gone)))
    }
    for (slot, cidrs) in found {
      var isNew = false
      for prefix in cidrs where enter(prefix, slot, listing) { isNew = true }
      // The kernel does not route it yet, or routes it by another ENI.
      if isNew, book.enis[slot].state == .open { rewire(slot) }
    }
    // If two listings differ, one is stale: until it is known which, no pod gets the address. CIDRs that are on another
    // ENI by now have been added there, or move.
    if !gone.isEmpty {
      let shown = Set(listing.enis.flatMap(\.cidrs))
      for place in gone where !shown.contains(place.cidr) { recent.returned[place] = now + settings.timings.quarantine }
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
    // No difference if neither IMDS nor the pool has it any more.
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

  /// Whether the listing can be current for the ENI; IMDS may show the previous state for a minute.
  private func isSettled(_ slot: Int, _ listing: ENIListing) -> Bool {
    let eni = book.enis[slot]
    let lag = listing.isAuthoritative ? .zero : settings.timings.quarantine
    return eni.isPresent && eni.action == nil && eni.changedAt + lag <= listing.askedAt
  }

  private func known(_ slot: Int) -> Set<IPPrefix> {
    Set(book.enis[slot].cidrs.filter { book.cidrs[$0].standing != .lost }.map { book.cidrs[$0].prefix })
  }

  /// IMDS differs from the book: EC2 is asked.
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

  /// - Returns: the CIDRs to add.
  private mutating func compare(
    _ slot: Int, _ seen: ENIObservation, _ listing: ENIListing, _ now: PoolInstant, _ gone: inout [Place]
  ) -> [IPPrefix] {
    if book.enis[slot].state == .unmanaged {
      guard listing.isAuthoritative else { return [] }
      return compareUnmanaged(slot, seen)
    }
    let shown = Set(seen.cidrs.filter { !isSpared($0, of: book.enis[slot].observation) })
    guard listing.isAuthoritative else {
      let known = known(slot)
      let isNew = shown.subtracting(known).contains { !recent.isDoubtful($0, on: seen.id) }
      if isNew || !known.isSubset(of: shown.union(recent.given.keys)) {
        doubt(seen.id, known: known, shown: shown, now)
      } else {
        doubts[seen.id] = nil
      }
      return []
    }
    if book.enis[slot].state == .freeing {
      // The free is repeated; if EC2 must not be called, the listing is old enough to be believed.
      guard !settings.provisions else { return [] }
      rewire(slot)
    }
    if book.enis[slot].state == .lost { rewire(slot) }
    book.enis[slot].isUnclear = false
    book.enis[slot].update {
      $0.isExcluded = seen.isExcluded
      if $0.primaryAddress == nil { $0.primaryAddress = seen.primaryAddress }
      // IMDS has no tags and types: after a start without EC2 they become known here.
      $0.isTrunk = seen.isTrunk
      $0.isEFA = seen.isEFA
      $0.isManaged = seen.isManaged || seen.isPrimary
      $0.isConfirmed = $0.isConfirmed || seen.isConfirmed
    }
    for cidr in book.enis[slot].cidrs {
      let record = book.cidrs[cidr]
      if shown.contains(record.prefix) {
        moves[record.prefix] = nil
        // The earlier unassign may still be carried out: it is repeated.
        if record.standing == .leaving, settings.provisions { continue }
        if record.standing == .lost, recent.isDoubtful(record.prefix, on: seen.id) { continue }
        let standing = standing(of: record.prefix, slot: slot)
        if standing != record.standing { book.change(cidr) { $0.standing = standing } }
      } else if recent.given[record.prefix] == nil {
        if record.standing != .lost { gone.append(Place(record.prefix, seen.id)) }
        lose(cidr: cidr)
        wireAgain(slot)
      }
    }
    return seen.cidrs.filter { !recent.isDoubtful($0, on: seen.id) }
  }

  /// EC2 has listed an ENI that was unmanaged because only IMDS had shown it.
  private mutating func compareUnmanaged(_ slot: Int, _ seen: ENIObservation) -> [IPPrefix] {
    guard seen.isManaged else {
      book.enis[slot].update { $0.isConfirmed = true }
      return []
    }
    book.enis[slot].update { $0 = seen }
    rewire(slot)
    return seen.cidrs.filter { !recent.isDoubtful($0, on: seen.id) }
  }

  /// EC2 removed a CIDR. Addresses that pods still use stay accounted until the pods are gone.
  mutating func lose(cidr: Int) {
    let assigned = book.cidrs[cidr].assigned
    guard assigned > 0 else { return book.removeCIDR(cidr) }
    if book.cidrs[cidr].standing != .lost { forcedRemovals.addresses += assigned }
    book.change(cidr) { $0.standing = .lost }
  }

  /// An ENI was detached by somebody else.
  private mutating func lose(_ slot: Int) {
    if book.slots[slot].usable.assigned + book.slots[slot].aside.assigned > 0 { forcedRemovals.enis += 1 }
    for cidr in book.enis[slot].cidrs { lose(cidr: cidr) }
    unwired[slot] = nil
    if book.enis[slot].cidrs.isEmpty { drop(slot) } else { book.setState(slot, .lost) }
  }

  /// Updates the kernel from the book: sources that the ENI no longer has are removed from the source map.
  mutating func wireAgain(_ slot: Int) {
    if book.enis[slot].state == .open, unwired[slot] == nil { unwired[slot] = Backoff() }
  }

  /// Requests network setup of ENIs that have none, or an outdated one.
  mutating func wire(_ now: PoolInstant, _ batch: inout Batch) {
    for (slot, backoff) in unwired.sorted(by: { $0.key < $1.key }) {
      guard book.enis[slot].action == nil, !backoff.isHolding(now, urgent: true) else { continue }
      let wanted = observation(of: slot)
      let id = start(.wire(slot: slot, Set(wanted.cidrs)))
      book.enis[slot].action = id
      batch.work.append(.wireENI(id, wanted))
    }
  }

  /// Requests a listing of all ENIs from EC2.
  mutating func list(_ now: PoolInstant, _ batch: inout Batch) {
    guard !inFlight.values.contains(where: { $0.work.actionClass == .list }),
      !backoffs[ActionClass.list.rawValue].isHolding(now, urgent: isListingUrgent)
    else { return }
    batch.work.append(.listENIs(start(.list)))
  }

  /// Whether growth waits for a listing. A question about running pods' addresses can wait: the kernel keeps their
  /// routes meanwhile.
  var isListingUrgent: Bool {
    !queue.isEmpty || unclearAttachAt != nil || book.enis.contains { $0.isPresent && $0.isUnclear }
  }
}

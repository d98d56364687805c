// SPDX-License-Identifier: Apache-2.0

/// Growth: how many addresses are wanted, and on which existing or new ENI.
extension Pool {
  /// Current addresses, requested addresses and waiting pods, as input for the targets.
  var targets: Targets {
    let counts = book.open
    let awaiting = book.awaiting
    return Targets(
      settings: settings, total: counts.total + awaiting.total + pendingAddresses - withheld,
      assigned: counts.assigned + awaiting.assigned + queue.count + turnedAway.count,
      cooling: counts.cooling + awaiting.cooling,
      idleCIDRs: counts.idleCIDRs, cidrs: counts.cidrs, stranded: book.aside.assigned)
  }

  /// Requests the missing addresses from EC2: first on ENIs with room, the rest on new ENIs, all concurrently.
  mutating func grow(_ now: PoolInstant, _ batch: inout Batch) {
    growthRetryAt = nil
    turnedAway.expire(now)
    endPauses(now)
    let targets = targets
    let shortage = targets.shortage
    if shortage <= 0 || targets.urgentShortage > 0 { gatheredAt = nil }
    guard shortage > 0, mayProvision, targets.urgentShortage > 0 || hasGathered(targets, now) else { return }
    var plan = GrowthPlan(
      remaining: shortage, urgent: targets.urgentShortage,
      allowance: max(settings.maxPods - targets.stranded - targets.total, shortage),
      fills: targets.fillsWholeENIs)
    for slot in book.enis.indices where plan.remaining > 0 { growENI(slot, &plan, now, &batch) }
    for flight in inFlight.values {
      // An ENI being attached has room for more: assigning to it later is cheaper than attaching another ENI now.
      guard case .attach(let request) = flight.work else { continue }
      plan.leave((settings.slotsPerENI - request.count) * unit(request.kind))
    }
    while plan.remaining > 0, attachENI(&plan, now, &batch) {}
    if plan.remaining > 0 || plan.isHeld { growthRetryAt = nextGrowthRetry(now, urgent: plan.isUrgent) }
  }

  /// Whether growth for warm targets may start. Pods arrive in bursts, so growth waits briefly to replace all taken
  /// addresses in one call. A waiting pod ends the wait at once.
  private mutating func hasGathered(_ targets: Targets, _ now: PoolInstant) -> Bool {
    guard targets.assigned > 0 else { return true }
    let due = gatheredAt ?? now + Pool.gathering
    gatheredAt = due
    guard due > now else { return true }
    growthRetryAt = due
    return false
  }

  struct GrowthPlan {
    /// Addresses still to request.
    var remaining: Int
    /// The part of them that pods wait for.
    var urgent: Int
    /// A pod waits.
    let isUrgent: Bool
    /// The maximum number of addresses to request.
    var allowance: Int
    /// An ENI is filled to its limit.
    let fills: Bool
    /// Some work was skipped because its backoff is not over.
    var isHeld = false

    init(remaining: Int, urgent: Int, allowance: Int, fills: Bool) {
      self.remaining = remaining
      self.urgent = urgent
      self.allowance = allowance
      self.fills = fills
      isUrgent = urgent > 0
    }

    /// CIDRs to request for an ENI with this much room.
    func count(room: Int, unit: Int) -> Int {
      min(room, Targets.units(fills ? max(remaining, allowance) : remaining, of: unit))
    }

    /// Addresses to request later, when their ENI is available.
    mutating func leave(_ addresses: Int) {
      remaining -= addresses
      urgent -= addresses
    }

    mutating func asked(_ addresses: Int) {
      remaining -= addresses
      urgent -= addresses
      allowance -= addresses
    }
  }

  private mutating func growENI(_ slot: Int, _ plan: inout GrowthPlan, _ now: PoolInstant, _ batch: inout Batch) {
    guard let room = room(slot, now), plan.isUrgent || !isOutdated(slot) else { return }
    let eni = book.enis[slot]
    let subnet = eni.observation.subnet
    let kind = kind(in: subnet, now)
    // A busy ENI is considered again when its action ends.
    guard eni.state == .open, eni.action == nil, !eni.isUnclear else {
      plan.leave(room * unit(kind))
      return
    }
    guard pausedSubnets[subnet] == nil else {
      plan.isHeld = true
      return
    }
    // EC2 refused for a reason specific to this ENI: another or a new ENI may work.
    if let refused = refusedENIs[slot], refused.isHolding(now, urgent: plan.isUrgent) {
      plan.isHeld = true
      return
    }
    guard mayTry(.assign, now, urgent: plan.isUrgent) else {
      plan.isHeld = true
      // A new ENI costs three calls, which pods need more. If EC2 refuses the call for a reason other than throttling,
      // a new ENI may be the only way.
      if !plan.isUrgent || backoffs[ActionClass.assign.rawValue].isThrottled { plan.leave(room * unit(kind)) }
      return
    }
    let wanted = plan.count(room: room, unit: unit(kind))
    let count = min(wanted, subnetCaps[subnet] ?? Int.max)
    let supply = count * unit(kind)
    let id = start(.assign(slot: slot, subnet, kind, count: count), supply: supply)
    book.enis[slot].action = id
    // Addresses beyond the cap are requested on the same ENI later: a new ENI would be in the same subnet.
    plan.asked(wanted * unit(kind))
    batch.work.append(.assign(id, eni.id, kind, count: count))
  }

  private mutating func attachENI(_ plan: inout GrowthPlan, _ now: PoolInstant, _ batch: inout Batch) -> Bool {
    guard places(now, urgent: plan.isUrgent) > 0, unclearAttachAt == nil else { return false }
    // An ENI for the warm target alone yields to waiting pods, here and on other nodes.
    guard plan.urgent > 0 || (queue.isEmpty && turnedAway.isEmpty) else { return false }
    guard mayTry(.attach, now, urgent: plan.isUrgent),
      let subnet = subnets.first(where: { pausedSubnets[$0] == nil }), let device = freeDevice
    else {
      plan.isHeld = true
      return false
    }
    let kind = kind(in: subnet, now)
    let count = min(plan.count(room: settings.slotsPerENI, unit: unit(kind)), subnetCaps[subnet] ?? Int.max)
    guard count > 0 else { return false }
    let request = AttachRequest(device: device, card: settings.card, subnet: subnet, kind: kind, count: count)
    let supply = count * unit(kind)
    let id = start(.attach(request), supply: supply)
    plan.asked(settings.slotsPerENI * unit(kind))
    batch.work.append(.attachENI(id, request))
    return true
  }

  /// CIDRs that an ENI can still take; nil if none.
  func room(_ slot: Int, _ now: PoolInstant) -> Int? {
    let eni = book.enis[slot]
    // An ENI in the right subnet first.
    if isOutdated(slot), mayReplace(now) { return nil }
    guard eni.state == .open || eni.state == .wiring, mayGrow(slot) else { return nil }
    var room = settings.slotsPerENI - eni.cidrs.count - recent.unprovenSlots(of: eni.id)
    if let action = eni.action, case .assign(_, _, _, let count) = inFlight[action]?.work { room -= count }
    return room > 0 ? room : nil
  }

  /// Whether pods may get addresses of an ENI.
  func mayGrow(_ slot: Int) -> Bool {
    let eni = book.enis[slot].observation
    return eni.isManaged && eni.isConfirmed && !eni.isTrunk && !eni.isExcluded
      && !(eni.isPrimary && settings.usesCustomNetworking)
  }

  /// ENIs that may still be attached to the pool's network card, counting those on their way. Other cards have limits of
  /// their own.
  func places(_ now: PoolInstant, urgent: Bool = true) -> Int {
    // One ENI's prefix is enough, and is tried for until EC2 gives it.
    if settings.family == .ipv6, book.enis.indices.contains(where: { book.enis[$0].isPresent && mayGrow($0) }) {
      return 0
    }
    let taken = attached + attaching
    let byType = settings.eniLimit - taken
    guard let limit = attachmentLimit else { return byType }
    // After the wait one more attach is tried: a volume may have been detached.
    return min(byType, limit.attached - taken + (limit.backoff.isHolding(now, urgent: urgent) ? 0 : 1))
  }

  /// ENIs attached to the pool's network card, unmanaged ones too.
  var attached: Int { book.enis.count { $0.takesPlace && $0.observation.card == settings.card } }

  var attaching: Int {
    inFlight.values.count { if case .attach = $0.work { true } else { false } }
  }

  /// The lowest index that no attached or requested ENI of the card has. EC2 allows 0…99 on a card; 0 on card 0 is the
  /// primary ENI.
  private var freeDevice: Int? {
    var taken = Set(takenDevices.keys)
    for eni in book.enis where eni.isPresent && eni.observation.card == settings.card {
      taken.insert(eni.observation.device)
    }
    for flight in inFlight.values { if case .attach(let request) = flight.work { taken.insert(request.device) } }
    return (settings.card == 0 ? 1...99 : 0...99).first { !taken.contains($0) }
  }

  func unit(_ kind: CIDRKind) -> Int { kind == .prefix ? settings.prefixSize : 1 }

  /// Prefixes, if configured and available in the subnet.
  func kind(in subnet: SubnetID, _ now: PoolInstant) -> CIDRKind {
    settings.usesPrefixes && fallbackSubnets[subnet] == nil ? .prefix : .address
  }

  /// Whether a class of calls is not delayed; after a failure, one call at a time probes.
  func mayTry(_ kind: ActionClass, _ now: PoolInstant, urgent: Bool) -> Bool {
    let backoff = backoffs[kind.rawValue]
    if backoff.isHolding(now, urgent: urgent) { return false }
    return backoff.failures == 0 || !inFlight.values.contains { $0.work.actionClass == kind }
  }

  private mutating func endPauses(_ now: PoolInstant) {
    for (subnet, until) in pausedSubnets where until <= now { pausedSubnets[subnet] = nil }
    for (device, until) in takenDevices where until <= now { takenDevices[device] = nil }
    let ended = fallbackSubnets.filter { $0.value <= now }
    guard !ended.isEmpty else { return }
    for subnet in ended.keys { fallbackSubnets[subnet] = nil }
    // Single addresses that replaced prefixes are unassigned once prefixes are available again (`shrink` waits for
    // that).
    restand(now)
  }

  private func nextGrowthRetry(_ now: PoolInstant, urgent: Bool) -> PoolInstant? {
    let backoffs =
      [backoffs[ActionClass.assign.rawValue], backoffs[ActionClass.attach.rawValue]] + refusedENIs.values
      + [attachmentLimit?.backoff].compactMap { $0 }
    let waits = backoffs.compactMap { $0.dueAt(urgent: urgent) }
    return (waits + pausedSubnets.values).filter { $0 > now }.min()
  }

  // MARK: what can still be had

  /// Addresses that can be requested before an instant, beyond those already requested.
  func askable(by deadline: PoolInstant, _ now: PoolInstant) -> Int {
    let isOver = { (instant: PoolInstant?) in instant.map { $0 <= deadline } ?? true }
    var sum = 0
    if isOver(backoffs[ActionClass.assign.rawValue].urgentAt) {
      for slot in book.enis.indices {
        let subnet = book.enis[slot].observation.subnet
        guard isOver(pausedSubnets[subnet]), isOver(refusedENIs[slot]?.urgentAt) else { continue }
        let clearable = isOver(backoffs[ActionClass.unassign.rawValue].urgentAt) ? clearable(slot) : 0
        sum += ((room(slot, now) ?? 0) + clearable) * unit(kind(in: subnet, now))
      }
      for flight in inFlight.values {
        guard case .attach(let request) = flight.work, isOver(pausedSubnets[request.subnet]) else { continue }
        sum += (settings.slotsPerENI - request.count) * unit(request.kind)
      }
    }
    for (slot, backoff) in unwired where book.enis[slot].state == .broken && isOver(backoff.urgentAt) {
      sum += book.slots[slot].usable.free
    }
    if isOver(backoffs[ActionClass.attach.rawValue].urgentAt),
      let subnet = subnets.first(where: { isOver(pausedSubnets[$0]) })
    {
      let leaving = book.enis.count { $0.state == .freeing }
      sum += max(places(deadline) + leaving, 0) * settings.slotsPerENI * unit(kind(in: subnet, now))
    }
    return sum
  }

}

extension Pool.InFlight.Work {
  /// The calls that are delayed together with it.
  var actionClass: ActionClass {
    switch self {
    case .attach: .attach
    case .assign: .assign
    case .unassign: .unassign
    case .free: .free
    case .wire: .wire
    case .list: .list
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import VPCModel

/// The small EC2 of the rig, and the node's kernel: how they carry out the pool's actions.
extension PoolRig {
  func listing() -> [ENIObservation] {
    enis.map { id, eni in
      ENIObservation(
        id: id, device: eni.device, card: eni.card, subnet: eni.subnet, cidrs: eni.cidrs.sorted(),
        isManaged: eni.card == 0, isWired: eni.isWired)
    }
  }

  mutating func carryOutLate(_ action: PoolAction) {
    switch action {
    case .unassign(_, let eni, let prefixes):
      for prefix in prefixes where enis[eni]?.cidrs.contains(prefix) == true { checkIdle(prefix) }
    case .freeENI(_, let eni):
      for prefix in enis[eni]?.cidrs ?? [] { checkIdle(prefix) }
      goneLate.insert(eni)
    default: break
    }
    _ = done(action, isLate: true)
  }

  mutating func perform(_ action: PoolAction) -> ActionResult {
    if let fault = fault(action) {
      // The agent has no answer and leaves the kernel as it is.
      if fault.isDone {
        // The pool frees the ENI again: only an answer proves that nothing can happen later.
        if case .freeENI(_, let eni) = action { goneLate.insert(eni) }
        _ = done(action, isLate: true)
      }
      return .failed(fault.failure)
    }
    return done(action)
  }

  mutating func done(_ action: PoolAction, isLate: Bool = false) -> ActionResult {
    remember()
    switch action {
    case .attachENI(_, let request):
      let onCard = enis.values.filter { $0.card == 0 }
      if onCard.contains(where: { $0.device == request.device }) { return .failed(ActionFailure(.deviceTaken)) }
      if onCard.count + unmanagedENIs >= min(pool.settings.eniLimit, attachable ?? Int.max) {
        let words = "Interface count \(onCard.count + 1) exceeds the limit for m5.large"
        return .failed(ActionFailure(.attachmentLimit, words: words))
      }
      guard let cidrs = take(request.kind, request.count) else { return full(request.kind) }
      nextENI += 1
      guard let id = ENIID("eni-a\(nextENI)") else { return .done }
      enis[id] = ENI(device: request.device, subnet: request.subnet, cidrs: Set(cidrs), led: nil)
      return .attached(ENIObservation(id: id, device: request.device, subnet: request.subnet, cidrs: cidrs))
    case .assign(let id, let eni, let kind, let count):
      guard let held = enis[eni]?.cidrs.count else { return .failed(ActionFailure(.eniGone)) }
      guard held + count <= pool.settings.slotsPerENI else { return .failed(ActionFailure(.addressLimit)) }
      guard let cidrs = take(kind, count) else { return full(kind) }
      enis[eni]?.cidrs.formUnion(cidrs)
      if !isLate { follow(id, cidrs) }
      return .assigned(cidrs)
    case .unassign(let id, let eni, let prefixes):
      // All or nothing.
      guard prefixes.allSatisfy({ enis[eni]?.cidrs.contains($0) == true }) else {
        return .failed(ActionFailure(enis[eni] == nil ? .eniGone : .notAssigned))
      }
      for prefix in prefixes where enis[eni]?.cidrs.remove(prefix) != nil { giveBack(prefix) }
      if !isLate { follow(id, prefixes) }
      return .done
    case .freeENI(_, let eni):
      if !isLate { converge() }
      for prefix in enis.removeValue(forKey: eni)?.cidrs ?? [] { giveBack(prefix) }
      return .done
    case .wireENI(_, let observation):
      guard enis[observation.id] != nil else { return .failed(ActionFailure(.other("no link"))) }
      if !isLate { converge(settingUp: observation.id) }
      return .done
    case .listENIs:
      return .listed(ENIListing(enis: answersListing?() ?? seen(lag: listingLag), askedAt: now, isAuthoritative: true))
    case .persist, .answerAdd, .answerDelete, .wake: return .done
    }
  }

  private mutating func follow(_ id: ActionID, _ cidrs: [IPPrefix]) {
    feed(.carriedOut(id, cidrs))
    converge()
  }

  /// Like the node's network: what the pool wants, and what running pods use besides.
  mutating func converge(settingUp eni: ENIID? = nil) {
    let wanted = pool.wantedENIs
    var owners: [IPPrefix: ENIID] = [:]
    for eni in wanted.enis {
      for cidr in eni.cidrs where owners.updateValue(eni.id, forKey: cidr) != nil {
        violate("\(cidr) is wanted on two ENIs")
      }
    }
    for address in inUse.keys {
      if let owner = wanted.enis.first(where: { $0.cidrs.contains { $0.contains(address) } })?.id {
        // Its rules are those of an earlier run until it is set up.
        kept[address] = enis[owner]?.led == nil && owner != eni ? owner : nil
      } else if let by = enis.first(where: { $0.value.led?.contains { $0.contains(address) } == true })?.key {
        kept[address] = by
      }
    }
    for id in enis.keys where enis[id]?.led != nil || id == eni { enis[id]?.led = Set(wanted[id]?.cidrs ?? []) }
  }

  func full(_ kind: CIDRKind) -> ActionResult {
    .failed(ActionFailure(kind == .prefix ? .noFreePrefix : .subnetFull))
  }

  /// The lowest free ones, all or nothing.
  mutating func take(_ kind: CIDRKind, _ count: Int) -> [IPPrefix]? {
    guard count <= (kind == .prefix ? freePrefixes : freeAddresses) else { return nil }
    let used = Set(enis.values.flatMap(\.cidrs))
    let isIPv6 = pool.settings.family == .ipv6
    var found: [IPPrefix] = []
    var number: UInt32 = 0
    while found.count < count {
      let address =
        isIPv6
        ? IPAddress(ipv6: UInt128(0x2001_0db8) << 96 | UInt128(number + 1) << 64)
        : IPAddress(ipv4: kind == .prefix ? 0x0a01_0000 + 16 * number : 0x0a00_0010 + number)
      number += 1
      let length = isIPv6 ? 80 : kind == .prefix ? 28 : 32
      guard let prefix = IPPrefix(address: address, length: length), !used.contains(prefix) else { continue }
      found.append(prefix)
    }
    if kind == .prefix { freePrefixes -= count } else { freeAddresses -= count }
    for prefix in found { givenAt[prefix] = now }
    return found
  }

  mutating func giveBack(_ prefix: IPPrefix) {
    if prefix.isSingle { freeAddresses += 1 } else { freePrefixes += 1 }
  }

  /// The address of an answered ADD.
  func address(_ waiter: WaiterID) -> IPAddress? {
    if case .assigned(let assignment) = answers[waiter] { assignment.address } else { nil }
  }

  func cause(_ waiter: WaiterID) -> FailureCause? {
    if case .failed(let cause) = answers[waiter] { cause } else { nil }
  }

  // MARK: old listings

  mutating func remember() {
    history.append((now, listing()))
    let oldest = now
    history.removeAll { $0.until + .seconds(120) < oldest }
  }

  /// Feeds a listing of IMDS that shows an older state.
  mutating func observe(lag: Duration) {
    feed(.observed(ENIListing(enis: seen(lag: lag), askedAt: now, isAuthoritative: false)))
  }

  /// What was attached that long ago.
  func seen(lag: Duration) -> [ENIObservation] {
    var found = history.first { $0.until + lag > now }?.listing ?? listing()
    // The node itself knows what is wired.
    for index in found.indices { found[index].isWired = enis[found[index].id]?.isWired ?? false }
    return found
  }
}

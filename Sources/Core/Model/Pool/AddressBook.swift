// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// The address book: ENIs, their CIDRs, and the pod attachments that hold addresses.
///
/// It keeps counts and decides only the order in which addresses are assigned: partly used CIDRs first (so that others
/// stay idle and can be unassigned), then idle ones, in the ENI with the lowest slot, the longest free address first.
/// Assigning and releasing take constant time for any number of addresses: CIDRs with free addresses are in lists,
/// cooldowns in one queue.
struct AddressBook: Sendable {
  var enis: [ENIRecord] = []
  var slotOf: [ENIID: Int] = [:]
  var cidrs: [CIDRRecord] = []
  var vacantCIDRs: [Int] = []
  var cidrOf: [IPPrefix: Int] = [:]
  var generation: UInt32 = 0
  var allocations: [AttachmentKey: Allocation] = [:]
  /// Changes of `allocations` that the checkpoint does not contain yet.
  var journal = CheckpointJournal()
  /// Addresses in use that no CIDR holds: EC2 removed them, or they come from a checkpoint.
  var strays: [IPAddress: AttachmentKey] = [:]
  var cooling: Deque<Cooling> = []
  /// Addresses in cooldown whose CIDR was removed: it may come back before the cooldown ends.
  var resting: [IPAddress: PoolInstant] = [:]

  /// Lists and sums of one ENI, kept apart from its record so that the hot path touches small values only.
  struct Slot: Sendable {
    var isOpen = false
    var partial = CIDRChain()
    var empty = CIDRChain()
    /// Addresses that can be assigned once the ENI is open.
    var usable = AddressCounts()
    /// The rest: draining, leaving, lost.
    var aside = AddressCounts()
  }
  var slots: [Slot] = []
  /// ENIs whose addresses are assigned only if no other ENI has a free one.
  var lastResort: Set<Int> = []
  /// No other has any.
  var lendsLastResort = true
  private var withPartial = SlotSet()
  private var withEmpty = SlotSet()

  /// Sums over usable CIDRs of open ENIs.
  private(set) var open = AddressCounts()
  /// The same for ENIs whose first network setup is in progress.
  private(set) var awaiting = AddressCounts()
  /// Everything else that is attached.
  private(set) var aside = AddressCounts()

  /// Who has an address.
  struct Allocation: Sendable {
    let address: IPAddress
    let pod: PodName
    let unixNanoseconds: Int64
    let interfacesCount: Int
    /// When an ADD last got it; nil if that was before the agent started.
    var askedAt: PoolInstant?
    /// -1 if no CIDR holds it.
    var cidr: Int
    var offset: Int
  }

  /// An address that no pod may get before an instant.
  struct Cooling: Sendable {
    let cidr: Int
    let generation: UInt32
    let offset: Int
    let until: PoolInstant

    func isSameAddress(as other: Cooling) -> Bool {
      cidr == other.cidr && generation == other.generation && offset == other.offset
    }
  }

  /// Whether a pod has, or recently had, an address in a CIDR that no known ENI holds.
  func isUsed(_ prefix: IPPrefix) -> Bool {
    if prefix.isSingle { return strays[prefix.address] != nil || resting[prefix.address] != nil }
    return strays.keys.contains(where: prefix.contains) || resting.keys.contains(where: prefix.contains)
  }

  // MARK: giving out and taking back

  /// Assigns an address to the attachment; nil if none is free.
  mutating func assign(
    _ key: AttachmentKey, pod: PodName, unixNanoseconds: Int64, interfacesCount: Int, now: PoolInstant
  ) -> Allocation? {
    guard let cidr = nextCIDR() else { return nil }
    var taken: Int?
    change(cidr) { record in
      taken = record.take()
      if taken != nil { record.assigned &+= 1 }
    }
    guard let offset = taken, let address = cidrs[cidr].prefix.address(at: offset) else { return nil }
    let allocation = Allocation(
      address: address, pod: pod, unixNanoseconds: unixNanoseconds, interfacesCount: interfacesCount,
      askedAt: now, cidr: cidr, offset: offset)
    allocations[key] = allocation
    journal.note(key)
    return allocation
  }

  private func nextCIDR() -> Int? {
    if !lastResort.isEmpty {
      if let slot = withPartial.first(outside: lastResort) { return slots[slot].partial.head }
      if let slot = withEmpty.first(outside: lastResort) { return slots[slot].empty.head }
      if !lendsLastResort { return nil }
    }
    if let slot = withPartial.first { return slots[slot].partial.head }
    if let slot = withEmpty.first { return slots[slot].empty.head }
    return nil
  }

  /// Releases the attachment's address; it may be assigned again at `until`, or at once if that is nil.
  ///
  /// - Returns: the released allocation; nil if it had none.
  mutating func release(_ key: AttachmentKey, until: PoolInstant?) -> Allocation? {
    guard let allocation = allocations.removeValue(forKey: key) else { return nil }
    journal.note(key)
    guard allocation.cidr >= 0 else {
      strays[allocation.address] = nil
      resting[allocation.address] = until
      return allocation
    }
    change(allocation.cidr) { record in
      record.assigned &-= 1
      if until != nil { record.cooling &+= 1 } else { record.giveBack(allocation.offset) }
    }
    if let until {
      cool(
        Cooling(
          cidr: allocation.cidr, generation: cidrs[allocation.cidr].generation, offset: allocation.offset, until: until)
      )
    }
    return allocation
  }

  /// All cooldowns have the same length, so the queue is in order except for those of a restart.
  mutating func cool(_ entry: Cooling) {
    var index = cooling.endIndex
    while index > cooling.startIndex, cooling[index - 1].until > entry.until { index -= 1 }
    if index == cooling.endIndex { cooling.append(entry) } else { cooling.insert(entry, at: index) }
  }

  /// Ends every cooldown that is over.
  mutating func thaw(_ now: PoolInstant) {
    while let first = cooling.first, first.until <= now {
      cooling.removeFirst()
      guard first.cidr < cidrs.count, cidrs[first.cidr].generation == first.generation else { continue }
      change(first.cidr) { record in
        record.cooling &-= 1
        record.giveBack(first.offset)
      }
    }
    if !resting.isEmpty { resting = resting.filter { $0.value > now } }
  }

  // MARK: the sums

  /// Changes a record and updates lists and sums.
  mutating func change(_ cidr: Int, _ body: (inout CIDRRecord) -> Void) {
    let slot = cidrs[cidr].slot
    count(cidr, slot, adding: false)
    body(&cidrs[cidr])
    count(cidr, slot, adding: true)
    relist(cidr, slot)
  }

  mutating func count(_ cidr: Int, _ slot: Int, adding: Bool) {
    // Field by field: a copy of the record would count references to its collections.
    let assigned = cidrs[cidr].assigned
    let cooling = cidrs[cidr].cooling
    let counts = AddressCounts(
      total: cidrs[cidr].capacity, assigned: assigned, cooling: cooling, idleCIDRs: assigned | cooling == 0 ? 1 : 0,
      cidrs: 1)
    let isUsable = cidrs[cidr].standing == .usable
    if adding {
      if isUsable { slots[slot].usable += counts } else { slots[slot].aside += counts }
    } else {
      if isUsable { slots[slot].usable -= counts } else { slots[slot].aside -= counts }
    }
    if isUsable, slots[slot].isOpen {
      if adding { open += counts } else { open -= counts }
    } else if isUsable, enis[slot].state == .wiring {
      if adding { awaiting += counts } else { awaiting -= counts }
    } else {
      if adding { aside += counts } else { aside -= counts }
    }
  }

  mutating func relist(_ cidr: Int, _ slot: Int) {
    let wanted: CIDRRecord.FreeList
    if !slots[slot].isOpen || cidrs[cidr].standing != .usable || cidrs[cidr].free == 0 {
      wanted = .none
    } else {
      wanted = cidrs[cidr].assigned == 0 ? .empty : .partial
    }
    guard wanted != cidrs[cidr].list else { return }
    switch cidrs[cidr].list {
    case .none: break
    case .empty:
      slots[slot].empty.unlink(cidr, in: &cidrs)
      if slots[slot].empty.head < 0 { withEmpty.set(slot, false) }
    case .partial:
      slots[slot].partial.unlink(cidr, in: &cidrs)
      if slots[slot].partial.head < 0 { withPartial.set(slot, false) }
    }
    cidrs[cidr].list = wanted
    switch wanted {
    case .none: break
    case .empty:
      slots[slot].empty.append(cidr, in: &cidrs)
      withEmpty.set(slot, true)
    case .partial:
      slots[slot].partial.append(cidr, in: &cidrs)
      withPartial.set(slot, true)
    }
  }
}

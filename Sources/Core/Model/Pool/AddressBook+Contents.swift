// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// Adds and removes ENIs and CIDRs, and restores allocations after a restart.
extension AddressBook {
  /// Adds an ENI without its CIDRs, in the lowest free slot.
  mutating func addENI(_ observation: ENIObservation, state: ENIRecord.State, now: PoolInstant) -> Int {
    let record = ENIRecord(observation: observation, state: state, now: now)
    let slot: Int
    if let vacant = enis.firstIndex(where: { !$0.isPresent }) {
      slot = vacant
      enis[slot] = record
      slots[slot] = Slot()
    } else {
      slot = enis.count
      enis.append(record)
      slots.append(Slot())
    }
    slots[slot].isOpen = state == .open
    slotOf[observation.id] = slot
    return slot
  }

  /// Changes the state of an ENI, and with it the sums that its addresses count in.
  mutating func setState(_ slot: Int, _ state: ENIRecord.State) {
    for cidr in enis[slot].cidrs { count(cidr, slot, adding: false) }
    enis[slot].state = state
    slots[slot].isOpen = state == .open
    for cidr in enis[slot].cidrs {
      count(cidr, slot, adding: true)
      relist(cidr, slot)
    }
  }

  /// Removes an ENI that has no CIDR left.
  mutating func removeENI(_ slot: Int) {
    slotOf[enis[slot].id] = nil
    enis[slot].state = .absent
    enis[slot].action = nil
    slots[slot].isOpen = false
  }

  /// Adds a CIDR of an ENI; stray allocations inside it become ordinary ones.
  ///
  /// - Returns: its index, or nil if it is already known or overlaps another CIDR.
  @discardableResult
  mutating func addCIDR(_ prefix: IPPrefix, slot: Int, standing: CIDRRecord.Standing) -> Int? {
    guard cidrOf[prefix] == nil, holder(of: prefix.address) == nil else { return nil }
    generation &+= 1
    let record = CIDRRecord(prefix: prefix, slot: slot, generation: generation, standing: standing)
    let cidr: Int
    if let vacant = vacantCIDRs.popLast() {
      cidr = vacant
      cidrs[cidr] = record
    } else {
      cidr = cidrs.count
      cidrs.append(record)
    }
    cidrOf[prefix] = cidr
    enis[slot].cidrs.append(cidr)
    count(cidr, slot, adding: true)
    relist(cidr, slot)
    for (address, key) in strays where prefix.contains(address) { settle(key, address, in: cidr) }
    for (address, until) in resting where prefix.contains(address) {
      resting[address] = nil
      restoreCooldown(address, until: until)
    }
    return cidr
  }

  /// Removes a CIDR. Its allocations become stray; its cooldowns still apply if it comes back.
  mutating func removeCIDR(_ cidr: Int) {
    let slot = cidrs[cidr].slot
    if cidrs[cidr].cooling > 0 {
      for entry in cooling where entry.cidr == cidr && entry.generation == cidrs[cidr].generation {
        if let address = cidrs[cidr].prefix.address(at: entry.offset) {
          resting[address] = max(resting[address] ?? entry.until, entry.until)
        }
      }
    }
    if cidrs[cidr].assigned > 0 {
      for (key, allocation) in allocations where allocation.cidr == cidr {
        allocations[key]?.cidr = -1
        strays[allocation.address] = key
      }
    }
    change(cidr) { $0.standing = .leaving }
    count(cidr, slot, adding: false)
    enis[slot].cidrs.removeAll { $0 == cidr }
    cidrOf[cidrs[cidr].prefix] = nil
    generation &+= 1
    cidrs[cidr] = CIDRRecord(prefix: cidrs[cidr].prefix, slot: slot, generation: generation, standing: .lost)
    vacantCIDRs.append(cidr)
  }

  /// The CIDR that holds an address.
  func holder(of address: IPAddress) -> Int? {
    if let single = cidrOf[IPPrefix(single: address)] { return single }
    return IPPrefix(containing: address, length: address.family.delegatedLength).flatMap { cidrOf[$0] }
  }

  /// Adds an allocation of the checkpoint; it is stray if no CIDR holds its address.
  ///
  /// - Returns: false if the key or the address is already in use.
  mutating func restore(_ entry: CheckpointAllocation) -> Bool {
    guard allocations[entry.key] == nil, strays[entry.address] == nil else { return false }
    journal.note(entry.key)
    allocations[entry.key] = Allocation(
      address: entry.address, pod: entry.pod, unixNanoseconds: entry.unixNanoseconds,
      interfacesCount: entry.interfacesCount, cidr: -1, offset: 0)
    strays[entry.address] = entry.key
    guard let cidr = holder(of: entry.address) else { return true }
    settle(entry.key, entry.address, in: cidr)
    if allocations[entry.key]?.cidr ?? -1 >= 0 { return true }
    allocations[entry.key] = nil
    strays[entry.address] = nil
    return false
  }

  private mutating func settle(_ key: AttachmentKey, _ address: IPAddress, in cidr: Int) {
    let offset = Int(truncatingIfNeeded: address.bits &- cidrs[cidr].prefix.address.bits)
    var isReserved = false
    change(cidr) { record in
      isReserved = record.reserve(offset)
      if isReserved { record.assigned &+= 1 }
    }
    guard isReserved else { return }
    allocations[key]?.cidr = cidr
    allocations[key]?.offset = offset
    strays[address] = nil
  }

  /// Puts a free address into cooldown, for a restart. For an address already in cooldown, the later end counts.
  mutating func restoreCooldown(_ address: IPAddress, until: PoolInstant) {
    guard let cidr = holder(of: address) else {
      resting[address] = max(resting[address] ?? until, until)
      return
    }
    let offset = Int(truncatingIfNeeded: address.bits &- cidrs[cidr].prefix.address.bits)
    var isReserved = false
    change(cidr) { record in
      isReserved = record.reserve(offset)
      if isReserved { record.cooling &+= 1 }
    }
    let entry = Cooling(cidr: cidr, generation: cidrs[cidr].generation, offset: offset, until: until)
    if !isReserved {
      guard let known = cooling.firstIndex(where: { $0.isSameAddress(as: entry) }), cooling[known].until < until else {
        return
      }
      cooling.remove(at: known)
    }
    cool(entry)
  }
}

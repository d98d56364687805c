// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// Read-only views for other parts.
extension Pool {
  /// The sums of the pool.
  package var counts: PoolCounts {
    PoolCounts(
      total: book.open.total + book.awaiting.total + book.aside.total,
      assigned: book.open.assigned + book.awaiting.assigned + book.aside.assigned + book.strays.count,
      cooling: book.open.cooling + book.awaiting.cooling + book.aside.cooling,
      free: book.open.free, pending: pendingAddresses + book.awaiting.free,
      preparing: book.awaiting.free, stray: book.strays.count, enis: book.enis.count(where: \.takesPlace),
      attaching: attaching,
      waiting: queue.requests, actions: inFlight.count)
  }

  /// Each ENI, by card and device index.
  package var enis: [ENISnapshot] {
    book.enis.indices.filter { book.enis[$0].isPresent }.map(snapshot)
      .sorted { ($0.eni.card, $0.eni.device, $0.eni.id) < ($1.eni.card, $1.eni.device, $1.eni.id) }
  }

  private func snapshot(_ slot: Int) -> ENISnapshot {
    let record = book.enis[slot]
    let cidrs = record.cidrs.map { index in
      let cidr = book.cidrs[index]
      return CIDRSnapshot(
        prefix: cidr.prefix, isUsable: cidr.standing == .usable && record.state == .open, capacity: cidr.capacity,
        assigned: cidr.assigned, cooling: cidr.cooling)
    }
    return ENISnapshot(
      eni: record.observation, isOpen: record.state == .open, isWired: unwired[slot] == nil,
      isManaged: record.state != .unmanaged, isOutdated: isOutdated(slot),
      cidrs: cidrs.sorted { $0.prefix < $1.prefix })
  }

  /// Every address in use, in no order.
  package var assignments: [Assignment] {
    book.allocations.map { assignment($0.key, $0.value, isNew: false) }
  }

  /// An attachment's allocation; nil if it has none.
  package func assignment(of key: AttachmentKey) -> Assignment? {
    book.allocations[key].map { assignment(key, $0, isNew: false) }
  }

  /// Subnets without a free prefix, where single addresses are used for now.
  package var fallbackSubnetIDs: [SubnetID] { fallbackSubnets.keys.sorted() }

  /// Whether an attachment still has the same allocation, and no ADD has asked for it recently.
  package func isQuiet(_ assignment: Assignment, for quiet: Duration, now: PoolInstant) -> Bool {
    guard let allocation = book.allocations[assignment.key], allocation.address == assignment.address,
      allocation.unixNanoseconds == assignment.assignedUnixNanoseconds
    else { return false }
    return allocation.askedAt.map { now - $0 >= quiet } ?? true
  }

  /// Full subnets, which are paused for now.
  package var pausedSubnetIDs: [SubnetID] { pausedSubnets.keys.sorted() }

  /// Why the pool does not grow although a pod waits or a warm target is not met; nil if it can grow or need not.
  package func blockedCause(now: PoolInstant) -> FailureCause? {
    guard !isStarted || targets.shortage > 0 else { return nil }
    let cause = blockingCause(now)
    switch cause {
    // A full subnet or the ENI limit is no cause while addresses are available elsewhere.
    case .onlyCooling, .eniLimitReached, .subnetFull, .noFreePrefix: return askable(by: now, now) > 0 ? nil : cause
    default: return cause
    }
  }

  /// Updates the checkpoint document with the changes since the last call.
  ///
  /// - Parameter document: the same one each time, or a new one, which is written completely.
  package mutating func update(_ document: inout CheckpointDocument) {
    if document.isNew || book.journal.isOverrun {
      document.removeAll()
      for (key, allocation) in book.allocations { document.set(entry(key, allocation)) }
    } else {
      for key in book.journal.keys {
        if let allocation = book.allocations[key] { document.set(entry(key, allocation)) } else { document.remove(key) }
      }
    }
    book.journal.clear()
  }

  private func entry(_ key: AttachmentKey, _ allocation: AddressBook.Allocation) -> CheckpointAllocation {
    CheckpointAllocation(
      key: key, address: allocation.address, unixNanoseconds: allocation.unixNanoseconds, pod: allocation.pod,
      interfacesCount: allocation.interfacesCount)
  }

  /// Addresses in cooldown.
  package func cooldowns(now time: PoolTime) -> [CheckpointCooldown] {
    var cooldowns: [CheckpointCooldown] = []
    cooldowns.reserveCapacity(book.cooling.count + book.resting.count)
    for entry in book.cooling where book.cidrs[entry.cidr].generation == entry.generation {
      guard let address = book.cidrs[entry.cidr].prefix.address(at: entry.offset) else { continue }
      cooldowns.append(cooldown(of: address, until: entry.until, time))
    }
    for (address, until) in book.resting { cooldowns.append(cooldown(of: address, until: until, time)) }
    return cooldowns
  }

  private func cooldown(of address: IPAddress, until: PoolInstant, _ time: PoolTime) -> CheckpointCooldown {
    let left = (until - time.instant).saturatedNanoseconds
    return CheckpointCooldown(address: address, untilUnixNanoseconds: time.unixNanoseconds &+ left)
  }
}

/// ENIs and addresses that EC2 removed while pods used them, counted since the start.
package struct ForcedRemovals: Sendable, Hashable {
  package internal(set) var enis = 0
  /// Addresses in use.
  package internal(set) var addresses = 0
}

/// Sums over the whole pool, in addresses unless said otherwise.
package struct PoolCounts: Sendable, Hashable {
  /// Assigned by EC2 to this node's ENIs, without the ENIs' primary addresses.
  package let total: Int
  package let assigned: Int
  package let cooling: Int
  /// Can be assigned now.
  package let free: Int
  /// Requested, not usable yet.
  package let pending: Int
  /// The part of them that EC2 has assigned, on ENIs whose network setup is in progress.
  package let preparing: Int
  /// In use, but not on any ENI in the EC2 listing.
  package let stray: Int
  /// ENIs attached, the primary and unmanaged ones included.
  package let enis: Int
  /// ENIs being attached.
  package let attaching: Int
  /// ADDs that wait.
  package let waiting: Int
  /// Actions in progress.
  package let actions: Int
}

/// One ENI for status and metrics.
package struct ENISnapshot: Sendable, Hashable {
  package let eni: ENIObservation
  /// Its addresses may be assigned.
  package let isOpen: Bool
  /// The kernel routes as the pool requires; false while the network setup is in progress or waits for a retry.
  package let isWired: Bool
  package let isManaged: Bool
  /// In a different subnet than the ENIConfig's: its pods stay, new pods go elsewhere.
  package internal(set) var isOutdated = false
  /// By address.
  package let cidrs: [CIDRSnapshot]
}

/// One secondary address or prefix for status and metrics.
package struct CIDRSnapshot: Sendable, Hashable {
  package let prefix: IPPrefix
  package let isUsable: Bool
  /// Addresses that may be given out: fewer than an IPv6 prefix holds.
  package let capacity: Int
  package let assigned: Int
  package let cooling: Int

  /// Free but not assignable: they are being unassigned, or their ENI is not ready.
  package var keptBack: Int { isUsable ? 0 : max(capacity - assigned - cooling, 0) }
}

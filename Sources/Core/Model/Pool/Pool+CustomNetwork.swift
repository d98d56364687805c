// SPDX-License-Identifier: Apache-2.0

/// Custom networking: pods belong on ENIs in ENIConfig's subnet.
///
///   the primary ENI     no new pod; what is there and no pod has is somebody else's, and left alone
///   an outdated ENI     made before custom networking, or for another ENIConfig: its pods stay, new ones come only where
///                       no other address can be had, and it goes once its last pod has gone
///   any other           as without custom networking
extension Pool {
  /// Whether an address or prefix on an ENI does not belong to the agent: it is not assigned to pods, not unassigned
  /// and not removed from the host. Addresses that pods use belong to the agent: it assigned them while custom
  /// networking was off.
  func isSpared(_ prefix: IPPrefix, of eni: ENIObservation) -> Bool {
    guard settings.usesCustomNetworking, eni.isPrimary, book.cidrOf[prefix] == nil,
      recent.lateReturns[Place(prefix, eni.id)] == nil
    else {
      return false
    }
    return !book.isUsed(prefix)
  }

  /// Whether an ENI is in a different subnet than new ENIs.
  func isOutdated(_ slot: Int) -> Bool {
    guard settings.usesCustomNetworking, !subnets.isEmpty else { return false }
    let eni = book.enis[slot]
    guard eni.isPresent, eni.state != .unmanaged, !eni.observation.isPrimary else { return false }
    return !subnets.contains(eni.observation.subnet)
  }

  /// Decides which ENIs are outdated, and whether pods get their addresses now.
  mutating func rankENIs(_ now: PoolInstant) {
    book.lastResort = Set(book.enis.indices.filter(isOutdated))
    book.lendsLastResort = book.lastResort.isEmpty || mustLend(now)
  }

  /// Free addresses of outdated ENIs that no pod gets now.
  var withheld: Int {
    guard !book.lendsLastResort else { return 0 }
    return book.lastResort.reduce(0) { $0 + (book.enis[$1].state == .open ? book.slots[$1].usable.free : 0) }
  }

  /// A pod waits at most this long for an address of the right subnet while others are free.
  static let patience = Duration.seconds(5)

  /// When waiting pods get the withheld addresses, even if growth is in progress.
  var lendAt: PoolInstant? {
    guard withheld > 0 else { return nil }
    return queue.keys.first.flatMap { queue.first(of: $0) }.map { $0.since + Pool.patience }
  }

  /// Whether no address of the right subnet can arrive in time.
  private func mustLend(_ now: PoolInstant) -> Bool {
    if let first = queue.keys.first.flatMap({ queue.first(of: $0) }), first.since + Pool.patience <= now { return true }
    guard mayProvision else { return true }
    if pendingAddresses > 0 || book.awaiting.free > 0 || mayReplace(now) { return false }
    guard !backoffs[ActionClass.assign.rawValue].isHolding(now, urgent: true) else { return true }
    return !book.enis.indices.contains { slot in
      let subnet = book.enis[slot].observation.subnet
      return !isOutdated(slot) && room(slot, now) != nil && pausedSubnets[subnet] == nil
        && refusedENIs[slot]?.isHolding(now, urgent: true) != true
    }
  }

  /// Whether a new ENI may be attached now.
  func mayReplace(_ now: PoolInstant) -> Bool {
    places(now) > 0 && !backoffs[ActionClass.attach.rawValue].isHolding(now, urgent: true)
      && subnets.contains { pausedSubnets[$0] == nil }
  }
}

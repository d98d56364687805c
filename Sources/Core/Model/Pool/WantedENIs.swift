// SPDX-License-Identifier: Apache-2.0

/// What the kernel must hold for the ENIs of one pool: derived from the pool, always as a whole.
package struct WantedENIs: Sendable, Hashable {
  /// Counts the pool's events: a value with a higher number is newer. Work runs concurrently, so values may arrive out of
  /// order.
  package var generation: UInt64
  /// ENIs that pods use or may use, without those that are being freed. One that was tagged `no_manage` under running pods
  /// stays. `cidrs` are the sources to route: all of the ENI's CIDRs, including those that EC2 removed under running pods.
  package var enis: [ENIObservation]

  package init(generation: UInt64 = 0, enis: [ENIObservation]) {
    self.generation = generation
    self.enis = enis
  }

  package subscript(id: ENIID) -> ENIObservation? { enis.first { $0.id == id } }
}

extension Pool {
  /// What the kernel must hold now. CIDRs of an assign or unassign that EC2 has carried out count before the action ends,
  /// since the kernel follows as the action's last step.
  package var wantedENIs: WantedENIs {
    var arriving: [Int: [IPPrefix]] = [:]
    var moved: Set<IPPrefix> = []
    for flight in inFlight.values {
      guard let cidrs = flight.carriedOut, let slot = flight.work.slot else { continue }
      moved.formUnion(cidrs)
      if case .assign = flight.work { arriving[slot, default: []] += cidrs }
    }
    var wanted = WantedENIs(generation: generation, enis: [])
    for slot in book.enis.indices {
      switch book.enis[slot].state {
      case .absent, .unmanaged, .freeing: continue
      case .wiring, .broken, .open, .lost: break
      }
      var eni = observation(of: slot)
      if !moved.isEmpty { eni.cidrs.removeAll(where: moved.contains) }
      eni.cidrs += arriving[slot] ?? []
      wanted.enis.append(eni)
    }
    return wanted
  }
}

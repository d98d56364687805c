// SPDX-License-Identifier: Apache-2.0

/// One attached ENI as the pool knows it.
struct ENIRecord: Sendable {
  enum State: UInt8, Sendable {
    /// The place in the table is free.
    case absent
    /// Attached, its links not verified: nothing of it is given out.
    case wiring
    /// Wiring failed and will be tried again; its addresses are not counted on.
    case broken
    case open
    /// On its way out. Without an action it is freed again: the answer to the last try was lost, or an earlier agent began.
    case freeing
    /// Gone behind the agent's back, with pods on it.
    case lost
    /// Not ours: takes a place and a device index.
    case unmanaged
  }

  /// Its `cidrs` are empty here: the arena holds them (`Pool.observation(of:)`).
  private(set) var observation: ENIObservation
  var state: State
  /// When the pool first saw it.
  var since: PoolInstant
  /// When an action last changed its addresses: an older listing says nothing about it.
  var changedAt: PoolInstant
  /// Indices of its CIDRs in the arena, in no order.
  var cidrs: [Int] = []
  /// The action under way, at most one.
  var action: ActionID?
  /// The answer to an action was lost: what it holds at EC2 is known again after the next listing.
  var isUnclear = false

  init(observation: ENIObservation, state: State, now: PoolInstant) {
    self.observation = observation
    self.observation.cidrs = []
    self.state = state
    since = now
    changedAt = now
  }

  /// Changes what is known of the ENI itself.
  mutating func update(_ change: (inout ENIObservation) -> Void) {
    change(&observation)
    observation.cidrs = []
  }

  var id: ENIID { observation.id }
  var isPresent: Bool { state != .absent }
  /// Whether it takes one of the places that the instance type allows.
  var takesPlace: Bool { isPresent && state != .lost }
}

/// Sums over CIDRs that count, kept up to date with every change so that a decision costs the same for any pool.
package struct AddressCounts: Sendable, Hashable {
  /// Addresses that can be given out or are in use or in cooldown.
  package internal(set) var total = 0
  package internal(set) var assigned = 0
  package internal(set) var cooling = 0
  /// CIDRs with nothing assigned and nothing in cooldown.
  package internal(set) var idleCIDRs = 0
  /// All CIDRs counted.
  package internal(set) var cidrs = 0

  /// Addresses that can be given out now.
  package var free: Int { total &- assigned &- cooling }

  static func += (left: inout AddressCounts, right: AddressCounts) {
    left.total &+= right.total
    left.assigned &+= right.assigned
    left.cooling &+= right.cooling
    left.idleCIDRs &+= right.idleCIDRs
    left.cidrs &+= right.cidrs
  }

  static func -= (left: inout AddressCounts, right: AddressCounts) {
    left.total &-= right.total
    left.assigned &-= right.assigned
    left.cooling &-= right.cooling
    left.idleCIDRs &-= right.idleCIDRs
    left.cidrs &-= right.cidrs
  }
}

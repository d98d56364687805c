// SPDX-License-Identifier: Apache-2.0

/// One attached ENI as the pool knows it.
struct ENIRecord: Sendable {
  enum State: UInt8, Sendable {
    /// The slot is free.
    case absent
    /// Attached but not verified on the node: none of its addresses is assigned.
    case wiring
    /// Network setup failed and will be retried; growth does not count on its addresses.
    case broken
    case open
    /// Being detached. If no action is in progress, the detach is repeated: the last answer was lost, or an earlier
    /// agent began it.
    case freeing
    /// Detached by somebody else while pods use it.
    case lost
    /// Unmanaged: it only takes an ENI slot and a device index.
    case unmanaged
  }

  /// Its `cidrs` are empty here: the arena holds them (`Pool.observation(of:)`).
  private(set) var observation: ENIObservation
  var state: State
  /// When the pool first saw it.
  var since: PoolInstant
  /// When an action last changed its addresses: older listings are ignored for it.
  var changedAt: PoolInstant
  /// Indices of its CIDRs in the arena, in no order.
  var cidrs: [Int] = []
  /// The action in progress, at most one.
  var action: ActionID?
  /// The answer to an action was lost: only the next listing tells what EC2 assigned to it.
  var isUnclear = false

  init(observation: ENIObservation, state: State, now: PoolInstant) {
    self.observation = observation
    self.observation.cidrs = []
    self.state = state
    since = now
    changedAt = now
  }

  /// Updates the known attributes of the ENI.
  mutating func update(_ change: (inout ENIObservation) -> Void) {
    change(&observation)
    observation.cidrs = []
  }

  var id: ENIID { observation.id }
  var isPresent: Bool { state != .absent }
  /// Whether it counts against the ENI limit of the instance type.
  var takesPlace: Bool { isPresent && state != .lost }
}

/// Sums over CIDRs that count, updated with every change so that a decision takes constant time.
package struct AddressCounts: Sendable, Hashable {
  /// Addresses that are free, in use or in cooldown.
  package internal(set) var total = 0
  package internal(set) var assigned = 0
  package internal(set) var cooling = 0
  /// CIDRs with nothing assigned and nothing in cooldown.
  package internal(set) var idleCIDRs = 0
  /// All CIDRs counted.
  package internal(set) var cidrs = 0

  /// Addresses that can be assigned now.
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

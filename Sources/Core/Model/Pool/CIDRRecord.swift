// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// One secondary address or delegated prefix of an ENI, with the state of each of its addresses.
///
/// An address that was never used costs nothing: those from `nextUnused` on are free unless `reserved`. Offsets that
/// came back out of cooldown wait in `returned`, the longest free first.
struct CIDRRecord: Sendable {
  enum Standing: UInt8, Sendable {
    /// Its free addresses may be given out once its ENI is open.
    case usable
    /// Nothing new from it: the other mode's kind, or an excluded ENI. Goes back to EC2 once idle.
    case draining
    /// On its way back to EC2. Where its ENI has no action under way it is given back again: the answer was lost, or an
    /// earlier agent began, and EC2 may still carry that call out.
    case leaving
    /// EC2 took it away while pods use it.
    case lost
  }

  let prefix: IPPrefix
  let slot: Int
  /// Tells this record from an earlier one in the same place of the arena.
  let generation: UInt32
  let capacity: Int
  var standing: Standing
  var assigned = 0
  var cooling = 0
  var nextUnused = 0
  var returned: Deque<Int> = []
  var reserved: Set<Int> = []
  /// The intrusive list it stands in.
  var list = FreeList.none
  var previous = -1
  var next = -1

  enum FreeList: UInt8, Sendable {
    case none
    /// Free addresses, and none assigned.
    case empty
    /// Free addresses, and some assigned.
    case partial
  }

  init(prefix: IPPrefix, slot: Int, generation: UInt32, standing: Standing) {
    self.prefix = prefix
    self.slot = slot
    self.generation = generation
    self.standing = standing
    // An IPv6 /80 holds more than any node can use: 65,536 of them, so that every count stays small.
    capacity = min(prefix.count, 1 << 16)
  }

  var kind: CIDRKind { prefix.isSingle ? .address : .prefix }
  var free: Int { capacity &- assigned &- cooling }
  /// Whether it can go back to EC2.
  var isIdle: Bool { assigned == 0 && cooling == 0 }

  /// Takes the address that was free the longest, never-used ones after those; there is one if `free > 0`.
  mutating func take() -> Int? {
    if let offset = returned.popFirst() { return offset }
    while nextUnused < capacity, reserved.contains(nextUnused) { nextUnused &+= 1 }
    guard nextUnused < capacity else { return nil }
    defer { nextUnused &+= 1 }
    return nextUnused
  }

  /// Takes one particular address, for a restart.
  ///
  /// - Returns: false where it is taken already or lies outside.
  mutating func reserve(_ offset: Int) -> Bool {
    guard offset >= nextUnused, offset < capacity, !reserved.contains(offset) else {
      guard let index = returned.firstIndex(of: offset) else { return false }
      returned.remove(at: index)
      return true
    }
    reserved.insert(offset)
    return true
  }

  /// Makes an address free again.
  mutating func giveBack(_ offset: Int) {
    if capacity == 1, reserved.isEmpty { nextUnused = 0 } else { returned.append(offset) }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import DequeModule

/// One secondary address or delegated prefix of an ENI, with the state of each of its addresses.
///
/// A never-used address takes no memory: those from `nextUnused` on are free unless `reserved`. Offsets whose cooldown
/// ended are in `returned`, the longest free first.
///
/// Of an IPv6 prefix the first address is never given out: it is the anycast address of the subnet's routers (RFC 4291,
/// section 2.6.1). Pods that have it from amazon-vpc-cni-k8s keep it until they end.
struct CIDRRecord: Sendable {
  enum Standing: UInt8, Sendable {
    /// Its free addresses may be assigned once its ENI is open.
    case usable
    /// No new assignments: it is of the other mode's kind, or on an excluded ENI. It is unassigned once idle.
    case draining
    /// Being unassigned. If its ENI has no action in progress, the unassign is repeated: the answer was lost, or an
    /// earlier agent began it, and EC2 may still carry out that call.
    case leaving
    /// EC2 removed it while pods use it.
    case lost
  }

  let prefix: IPPrefix
  let slot: Int
  /// Distinguishes this record from an earlier one in the same slot of the arena.
  let generation: UInt32
  /// The offset of the first address that is given out.
  let first: Int
  /// Addresses that are given out, from `first` on.
  let capacity: Int
  var standing: Standing
  var assigned = 0
  var cooling = 0
  var nextUnused = 0
  var returned: Deque<Int> = []
  var reserved: Set<Int> = []
  /// The intrusive list that contains it.
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
    first = prefix.family == .ipv6 && !prefix.isSingle ? 1 : 0
    nextUnused = first
    // An IPv6 /80 holds more than any node can use: 65,536 of them, so that every count stays small.
    capacity = min(prefix.count, 1 << 16) - first
  }

  var kind: CIDRKind { prefix.isSingle ? .address : .prefix }
  var free: Int { capacity &- assigned &- cooling }
  private var end: Int { first &+ capacity }
  /// Whether it can be unassigned.
  var isIdle: Bool { assigned == 0 && cooling == 0 }

  /// Takes the address that was free the longest, then never-used ones; requires `free > 0`.
  mutating func take() -> Int? {
    if let offset = returned.popFirst() { return offset }
    while nextUnused < end, reserved.contains(nextUnused) { nextUnused &+= 1 }
    guard nextUnused < end else { return nil }
    defer { nextUnused &+= 1 }
    return nextUnused
  }

  /// Takes one particular address, for a restart.
  ///
  /// - Returns: false if it is already taken.
  mutating func reserve(_ offset: Int) -> Bool {
    let isOutside = offset < first || offset >= end
    guard isOutside || offset >= nextUnused, !reserved.contains(offset) else {
      guard let index = returned.firstIndex(of: offset) else { return false }
      returned.remove(at: index)
      return true
    }
    reserved.insert(offset)
    return true
  }

  /// Makes an address free again.
  mutating func giveBack(_ offset: Int) {
    guard offset >= first, offset < end else { return _ = reserved.remove(offset) }
    if capacity == 1, reserved.isEmpty { nextUnused = 0 } else { returned.append(offset) }
  }
}

/// A doubly linked list through the records of the arena: removal takes constant time anywhere.
struct CIDRChain: Sendable {
  /// -1 if the list is empty.
  private(set) var head = -1
  private var tail = -1

  mutating func append(_ cidr: Int, in cidrs: inout [CIDRRecord]) {
    cidrs[cidr].previous = tail
    cidrs[cidr].next = -1
    if tail >= 0 { cidrs[tail].next = cidr } else { head = cidr }
    tail = cidr
  }

  mutating func unlink(_ cidr: Int, in cidrs: inout [CIDRRecord]) {
    let (previous, next) = (cidrs[cidr].previous, cidrs[cidr].next)
    if previous >= 0 { cidrs[previous].next = next } else { head = next }
    if next >= 0 { cidrs[next].previous = previous } else { tail = previous }
  }
}

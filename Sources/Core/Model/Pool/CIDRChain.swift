// SPDX-License-Identifier: Apache-2.0

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

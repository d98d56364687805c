// SPDX-License-Identifier: Apache-2.0

/// A bit set of small numbers with fast access to its smallest member.
struct SlotSet: Sendable {
  private var words: [UInt64] = []

  /// The smallest member.
  var first: Int? {
    for (index, word) in words.enumerated() where word != 0 {
      return index &* 64 &+ word.trailingZeroBitCount
    }
    return nil
  }

  /// The smallest member not among the given ones.
  func first(outside others: Set<Int>) -> Int? {
    for (index, word) in words.enumerated() {
      var rest = word
      while rest != 0 {
        let slot = index &* 64 &+ rest.trailingZeroBitCount
        if !others.contains(slot) { return slot }
        rest &= rest &- 1
      }
    }
    return nil
  }

  mutating func set(_ slot: Int, _ isMember: Bool) {
    while words.count <= slot >> 6 { words.append(0) }
    let bit: UInt64 = 1 << UInt64(slot & 63)
    if isMember { words[slot >> 6] |= bit } else { words[slot >> 6] &= ~bit }
  }
}

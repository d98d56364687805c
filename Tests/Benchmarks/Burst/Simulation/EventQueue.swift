// SPDX-License-Identifier: Apache-2.0

/// Future events, ordered by their instant. Events at the same instant run in the order of their insertion.
///
/// A binary heap: a burst has several hundred thousand entries.
struct EventQueue {
  struct Entry {
    let nanoseconds: Int64
    let order: UInt64
    let body: () -> Void

    func comesBefore(_ other: Entry) -> Bool { (nanoseconds, order) < (other.nanoseconds, other.order) }
  }

  private var heap: [Entry] = []
  private var lastOrder: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }

  mutating func push(at nanoseconds: Int64, _ body: @escaping () -> Void) {
    lastOrder += 1
    heap.append(Entry(nanoseconds: nanoseconds, order: lastOrder, body: body))
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard heap[child].comesBefore(heap[parent]) else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  /// Removes and returns the first entry; nil if there is none.
  mutating func pop() -> Entry? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    guard !heap.isEmpty else { return first }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].comesBefore(heap[least]) {
        least = child
      }
      if least == parent { return first }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}

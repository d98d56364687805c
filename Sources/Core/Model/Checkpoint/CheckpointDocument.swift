// SPDX-License-Identifier: Apache-2.0

extension Checkpoint {
  /// The file's bytes: one line of JSON in the field order of amazon-vpc-cni-k8s' encoder, empty optional fields left
  /// out.
  package func encoded() -> [UInt8] {
    var document = CheckpointDocument()
    for entry in allocations { document.set(entry) }
    return document.withBytes(cooldowns: cooldowns, returns: returns, clock: clock) { $0 }
  }
}

/// The checkpoint's text, kept between changes: a node with 700 pods writes the file at every ADD and DEL, while only
/// one entry changes. A change costs the text of that entry, and one move of bytes for a removal.
///
/// Entries are in insertion order. `Pool.update` applies changes.
package struct CheckpointDocument: Sendable {
  private struct Place: Sendable {
    /// Ascending, so that an entry is found by binary search.
    let number: UInt64
    var start: Int
  }

  /// The file up to the last entry. The first entry follows `[`, every other one `,`: the byte belongs to the entry.
  private var text: CheckpointBytes
  private var places: [Place] = []
  private var numbers: [AttachmentKey: UInt64] = [:]
  private var lastNumber: UInt64 = 0
  /// No entry was ever added or removed: the next update must add everything.
  private(set) var isNew = true

  private static let head = "{\"version\":\"\(Checkpoint.version)\",\"allocations\":"

  package init() {
    text = CheckpointBytes(capacity: 1024)
    text.raw(CheckpointDocument.head)
  }

  /// How many entries it has.
  package var count: Int { places.count }

  /// Adds an allocation, replacing the attachment's previous one.
  package mutating func set(_ entry: CheckpointAllocation) {
    remove(entry.key)
    lastNumber += 1
    numbers[entry.key] = lastNumber
    places.append(Place(number: lastNumber, start: text.bytes.count))
    text.raw(places.count == 1 ? "[" : ",")
    text.allocation(entry)
  }

  /// Removes the attachment's allocation, if any.
  package mutating func remove(_ key: AttachmentKey) {
    isNew = false
    guard let number = numbers.removeValue(forKey: key) else { return }
    let index = place(of: number)
    let start = places[index].start
    let end = index + 1 < places.count ? places[index + 1].start : text.bytes.count
    text.bytes.removeSubrange(start..<end)
    places.remove(at: index)
    for later in index..<places.count { places[later].start -= end - start }
    if index == 0, !places.isEmpty { text.bytes[start] = UInt8(ascii: "[") }
  }

  /// Empties it.
  mutating func removeAll() {
    self = CheckpointDocument()
    isNew = false
  }

  private func place(of number: UInt64) -> Int {
    var (low, high) = (0, places.count - 1)
    while low < high {
      let middle = (low + high) / 2
      if places[middle].number < number { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Passes the whole file to `body`, without a copy.
  package mutating func withBytes<Value, Failure: Error>(
    cooldowns: [CheckpointCooldown], returns: [CheckpointReturn] = [], clock: CheckpointClock? = nil,
    _ body: ([UInt8]) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    let length = text.bytes.count
    defer { text.bytes.removeSubrange(length...) }
    text.raw(places.isEmpty ? "[]" : "]")
    if !cooldowns.isEmpty {
      text.raw(",\"cooldowns\":")
      for (index, entry) in cooldowns.enumerated() {
        text.raw(index == 0 ? "[" : ",")
        text.cooldown(entry)
      }
      text.raw("]")
    }
    if !returns.isEmpty {
      text.raw(",\"returns\":")
      for (index, entry) in returns.enumerated() {
        text.raw(index == 0 ? "[" : ",")
        text.returned(entry)
      }
      text.raw("]")
    }
    if let clock { text.clock(clock) }
    text.raw("}\n")
    return try body(text.bytes)
  }
}

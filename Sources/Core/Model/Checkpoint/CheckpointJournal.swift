// SPDX-License-Identifier: Apache-2.0

/// Which attachments' allocations changed since the checkpoint's document was last brought up to date.
///
/// Bounded: beyond `limit` it says that anything may have changed, which costs one whole encoding. Whoever never asks
/// (a simulation) pays for nothing.
struct CheckpointJournal: Sendable {
  /// More changes than come between two writes of a node, even when all who wait are served at once.
  static let limit = 256

  /// In the order of the changes; one may stand twice.
  private(set) var keys: [AttachmentKey] = []
  /// Anything may have changed.
  private(set) var isOverrun = true

  mutating func note(_ key: AttachmentKey) {
    guard !isOverrun else { return }
    if keys.count < CheckpointJournal.limit {
      keys.append(key)
    } else {
      isOverrun = true
      keys = []
    }
  }

  /// Everything noted stands in the document.
  mutating func clear() {
    keys.removeAll(keepingCapacity: true)
    isOverrun = false
  }
}

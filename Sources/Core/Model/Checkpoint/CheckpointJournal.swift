// SPDX-License-Identifier: Apache-2.0

/// Which attachments' allocations changed since the checkpoint's document was last brought up to date.
///
/// Bounded: beyond `limit` everything counts as changed, which costs one full encoding. A simulation that never asks
/// pays nothing.
struct CheckpointJournal: Sendable {
  /// More changes than occur between two writes, even when all waiters are served at once.
  static let limit = 256

  /// In the order of the changes; one may appear twice.
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

  /// The document contains all noted changes.
  mutating func clear() {
    keys.removeAll(keepingCapacity: true)
    isOverrun = false
  }
}

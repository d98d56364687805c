// SPDX-License-Identifier: Apache-2.0

/// How often one object is repaired: usually at once, with backoff if another program keeps changing it. A value; the
/// caller passes the time.
///
///   free    the first three times                  at once
///   held    from the fourth time on                1, 2, 4 … 60 s after the last time, for as long as it takes
///   free    after two minutes of peace             as if nothing had been
///
/// Competing programs do not cause a repair loop this way.
struct RepairPacing: Sendable {
  private struct Entry {
    var count = 0
    var last: ContinuousClock.Instant
    var isTold = false
  }

  /// Repairs without delay.
  static let freeCount = 3
  static let firstWait = Duration.seconds(1)
  static let longestWait = Duration.seconds(60)
  /// Longer than the longest wait, so that a continuing repair loop is not forgotten between two repairs.
  static let peace = Duration.seconds(120)
  /// A full node has 737 pods; beyond this the oldest objects are forgotten, and so repaired without delay.
  private static let limit = 8192

  private var entries: [String: Entry] = [:]

  /// Whether an object may be repaired now; counts the repair if so.
  mutating func admit(_ subject: String, at now: ContinuousClock.Instant) -> Bool {
    let known = entries[subject].flatMap { $0.last.duration(to: now) < RepairPacing.peace ? $0 : nil }
    let entry = known ?? Entry(last: now)
    guard entry.count < RepairPacing.freeCount || now >= entry.last.advanced(by: RepairPacing.wait(entry.count)) else {
      return false
    }
    count(subject, at: now)
    return true
  }

  /// Counts a repair that needed no admission.
  mutating func count(_ subject: String, at now: ContinuousClock.Instant) {
    var entry = entries[subject] ?? Entry(last: now)
    if entry.last.duration(to: now) >= RepairPacing.peace { entry = Entry(last: now) }
    entry.count += 1
    entry.last = now
    entries[subject] = entry
    if entries.count > RepairPacing.limit { forget(at: now) }
  }

  private static func wait(_ count: Int) -> Duration {
    min(firstWait * (1 << min(count - freeCount, 6)), longestWait)
  }

  private mutating func forget(at now: ContinuousClock.Instant) {
    entries = entries.filter { $0.value.last.duration(to: now) < RepairPacing.peace }
    guard entries.count > RepairPacing.limit else { return }
    // Drops the older half at once, so that a flood does not cost a search per object.
    let newer = entries.sorted { $0.value.last > $1.value.last }.prefix(RepairPacing.limit / 2)
    entries = Dictionary(uniqueKeysWithValues: newer.map { ($0.key, $0.value) })
  }

  /// Objects that another program keeps changing and that are therefore repaired at intervals only.
  func held(at now: ContinuousClock.Instant) -> [String] {
    entries.filter { $0.value.count > RepairPacing.freeCount && $0.value.last.duration(to: now) < RepairPacing.peace }
      .keys.sorted()
  }

  /// True once per repair loop of an object.
  mutating func isNews(_ subject: String) -> Bool {
    guard var entry = entries[subject], entry.count > RepairPacing.freeCount, !entry.isTold else { return false }
    entry.isTold = true
    entries[subject] = entry
    return true
  }

  /// Like `isNews`, but true the first time.
  mutating func isNews(_ subject: String, counting now: ContinuousClock.Instant) -> Bool {
    count(subject, at: now)
    guard var entry = entries[subject], !entry.isTold else { return false }
    entry.isTold = true
    entries[subject] = entry
    return true
  }

  /// When a delayed object may be repaired; nil if now.
  func due(_ subject: String) -> ContinuousClock.Instant? {
    guard let entry = entries[subject], entry.count >= RepairPacing.freeCount else { return nil }
    return entry.last.advanced(by: RepairPacing.wait(entry.count))
  }
}

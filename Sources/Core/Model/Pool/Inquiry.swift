// SPDX-License-Identifier: Apache-2.0

/// Asks EC2 again about addresses that running pods use but its listing does not show, until the listing shows them
/// again or the last such pod is gone.
///
/// EC2's listings are eventually consistent, so one of them, or two, may be stale. The waits double, so that a
/// permanently missing address costs two listings an hour.
struct Inquiry: Sendable {
  /// Nil while there is nothing to ask.
  private(set) var askAt: PoolInstant?
  /// EC2 listings since the difference appeared.
  private(set) var answers = 0
  private var wait = Inquiry.shortest

  static let shortest = Duration.seconds(5)
  static let longest = Duration.seconds(1800)
  /// After this number of identical listings (75 s after the first), EC2 is believed.
  static let sufficient = 4

  /// A difference exists.
  mutating func raise(_ now: PoolInstant) { if askAt == nil { askAt = now + wait } }

  /// Whether it is time to ask; if so, schedules the next time.
  mutating func isDue(_ now: PoolInstant) -> Bool {
    guard let due = askAt, due <= now else { return false }
    wait = min(wait * 2, Inquiry.longest)
    askAt = now + wait
    return true
  }

  mutating func answered() { if askAt != nil { answers += 1 } }

  mutating func settle() { if askAt != nil { self = Inquiry() } }
}

/// The CIDRs of one ENI as the pool knows them and as IMDS shows them; nil if the ENI is absent. EC2 is asked about a
/// difference at once, and again after doubling waits while it lasts.
struct Doubt: Sendable {
  let known: Set<IPPrefix>?
  let shown: Set<IPPrefix>?
  private var askAt: PoolInstant
  private var wait = Duration.seconds(60)

  init(known: Set<IPPrefix>?, shown: Set<IPPrefix>?, now: PoolInstant) {
    self.known = known
    self.shown = shown
    askAt = now + wait
  }

  /// Whether to ask EC2 about the same difference again.
  mutating func isDue(_ now: PoolInstant) -> Bool {
    guard askAt <= now else { return false }
    wait = min(wait * 2, Inquiry.longest)
    askAt = now + wait
    return true
  }
}

/// A listing showed a CIDR in use on a different ENI than the pool has it on.
struct Move: Sendable {
  let eni: ENIID
  /// When that listing was requested.
  let askedAt: PoolInstant
  /// A listing requested this much later that says the same is believed: EC2's listings may be stale for about a
  /// minute.
  static let confirmation = Duration.seconds(60)
}

extension Pool {
  mutating func inquire(_ now: PoolInstant) {
    guard hasQuestion else { return inquiry.settle() }
    inquiry.raise(now)
    if inquiry.isDue(now) { needsListing = true }
  }

  /// Pods use addresses that no listing shows, or an ENI is attached that EC2 has not listed yet.
  private var hasQuestion: Bool {
    if !book.strays.isEmpty { return true }
    for (slot, eni) in book.enis.enumerated() where eni.isPresent {
      if !eni.observation.isConfirmed { return true }
      guard book.slots[slot].aside.assigned > 0 else { continue }
      if eni.cidrs.contains(where: { book.cidrs[$0].standing == .lost && book.cidrs[$0].assigned > 0 }) { return true }
    }
    return false
  }

  /// Whether EC2 must be asked again about addresses that running pods use.
  package var isInquiring: Bool { inquiry.askAt != nil }

  /// Whether an ENI may be freed: an address in use that no listing shows may be on any of them.
  var mayFreeENIs: Bool { book.strays.isEmpty || inquiry.answers >= Inquiry.sufficient }
}

// SPDX-License-Identifier: Apache-2.0

/// Asking EC2 again about what running pods use and its listing does not show, until that is settled: the listing shows it
/// again, or the last pod that used it is gone.
///
/// EC2's listings are eventually consistent, so one of them, or two, may be stale. The waits double, so that an address
/// which is really gone costs two listings an hour.
struct Inquiry: Sendable {
  /// Nil while there is nothing to ask.
  private(set) var askAt: PoolInstant?
  /// EC2's listings since the question came up.
  private(set) var answers = 0
  private var wait = Inquiry.shortest

  static let shortest = Duration.seconds(5)
  static let longest = Duration.seconds(1800)
  /// After so many listings that say the same (75 s after the first), EC2 is believed.
  static let sufficient = 4

  /// There is a question.
  mutating func raise(_ now: PoolInstant) { if askAt == nil { askAt = now + wait } }

  /// Whether it is time to ask; the next time is later.
  mutating func isDue(_ now: PoolInstant) -> Bool {
    guard let due = askAt, due <= now else { return false }
    wait = min(wait * 2, Inquiry.longest)
    askAt = now + wait
    return true
  }

  mutating func answered() { if askAt != nil { answers += 1 } }

  mutating func settle() { if askAt != nil { self = Inquiry() } }
}

/// The CIDRs of one ENI as the pool knows them and as IMDS shows them; nil where the ENI is not there at all. EC2 is asked
/// about a difference at once, and again after waits that double while it lasts.
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

  /// Whether EC2 is to be asked about the same difference again.
  mutating func isDue(_ now: PoolInstant) -> Bool {
    guard askAt <= now else { return false }
    wait = min(wait * 2, Inquiry.longest)
    askAt = now + wait
    return true
  }
}

/// A listing showed a CIDR that pods use on another ENI than the one that the pool knows.
struct Move: Sendable {
  let eni: ENIID
  /// When that listing was asked for.
  let askedAt: PoolInstant
  /// A listing asked for that much later, and saying the same, is believed: EC2's may be stale for about a minute.
  static let confirmation = Duration.seconds(60)
}

extension Pool {
  mutating func inquire(_ now: PoolInstant) {
    guard hasQuestion else { return inquiry.settle() }
    inquiry.raise(now)
    if inquiry.isDue(now) { needsListing = true }
  }

  /// Pods use what no listing shows, or an ENI is there that EC2 has not shown yet.
  private var hasQuestion: Bool {
    if !book.strays.isEmpty { return true }
    for (slot, eni) in book.enis.enumerated() where eni.isPresent {
      if !eni.observation.isConfirmed { return true }
      guard book.slots[slot].aside.assigned > 0 else { continue }
      if eni.cidrs.contains(where: { book.cidrs[$0].standing == .lost && book.cidrs[$0].assigned > 0 }) { return true }
    }
    return false
  }

  /// Whether EC2 is asked again about what running pods use.
  package var isInquiring: Bool { inquiry.askAt != nil }

  /// Whether an ENI may be freed: an address in use that no listing shows may be on any of them.
  var mayFreeENIs: Bool { book.strays.isEmpty || inquiry.answers >= Inquiry.sufficient }
}

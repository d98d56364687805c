// SPDX-License-Identifier: Apache-2.0

/// Recent changes at EC2, from its answers to calls, and until when a listing may not show them.
///
/// EC2's listings are eventually consistent: one may be up to a minute old (`PoolTimings.quarantine`). An answer to a
/// call is newer than a listing, so for that minute it takes precedence. EC2 may carry out a call with a lost answer
/// after a later call. Every instant is compared with the request time of a listing.
///
///   assigned, attached  the listing may lack it                  it stays
///   unassigned, freed   the listing may still show it            it is not added
///   a late call         it may go although it is listed          it is not added; a leaving CIDR is unassigned again
///   unproven            listed, and one of the two above         it takes a slot; a listing after that minute decides
struct RecentChanges: Sendable {
  /// CIDRs that EC2 assigned in answer to a call.
  var given: [IPPrefix: PoolInstant] = [:]
  /// ENIs that were attached, or listed for the first time.
  var attachedENIs: [ENIID: PoolInstant] = [:]
  /// CIDRs that were unassigned, or disappeared from a listing. A CIDR stays doubtful here even on another ENI.
  var returned: [Place: PoolInstant] = [:]
  /// ENIs that were freed.
  var freedENIs: [ENIID: PoolInstant] = [:]
  /// CIDRs that a call with a lost answer may still remove.
  var lateReturns: [Place: PoolInstant] = [:]
  /// ENIs that such a call may still detach.
  var lateFrees: [ENIID: PoolInstant] = [:]
  /// Doubtful CIDRs that the last listing showed, with their ENI.
  var unproven: [IPPrefix: ENIID] = [:]

  /// Drops entries that a listing requested at that time must show correctly.
  mutating func expire(before asked: PoolInstant) {
    RecentChanges.expire(&given, asked)
    RecentChanges.expire(&attachedENIs, asked)
    RecentChanges.expire(&returned, asked)
    RecentChanges.expire(&freedENIs, asked)
    RecentChanges.expire(&lateReturns, asked)
    RecentChanges.expire(&lateFrees, asked)
  }

  private static func expire<Key>(_ entries: inout [Key: PoolInstant], _ asked: PoolInstant) {
    guard !entries.isEmpty else { return }
    entries = entries.filter { $0.value > asked }
  }

  /// Whether a listing that shows a CIDR may be stale, or an earlier call may still remove the CIDR.
  func isDoubtful(_ prefix: IPPrefix, on eni: ENIID) -> Bool {
    guard hasDoubt else { return false }
    // The checkpoint of an earlier run may not name the ENI.
    return [Place(prefix, eni), Place(prefix, nil)].contains { returned[$0] != nil || lateReturns[$0] != nil }
  }

  var hasDoubt: Bool { !returned.isEmpty || !lateReturns.isEmpty }

  /// When a new listing decides the first unproven CIDR.
  var provableAt: PoolInstant? {
    guard !unproven.isEmpty else { return nil }
    return unproven.compactMap { cidr, eni in
      [Place(cidr, eni), Place(cidr, nil)].flatMap { [returned[$0], lateReturns[$0]] }.compactMap { $0 }.max()
    }.min()
  }

  /// Slots of an ENI that unproven CIDRs take.
  func unprovenSlots(of eni: ENIID) -> Int { unproven.isEmpty ? 0 : unproven.values.count { $0 == eni } }
}

/// A CIDR on an ENI; nil if the ENI is unknown.
struct Place: Sendable, Hashable {
  let cidr: IPPrefix
  let eni: ENIID?

  init(_ cidr: IPPrefix, _ eni: ENIID?) {
    self.cidr = cidr
    self.eni = eni
  }
}

extension Pool {
  /// EC2 has just given CIDRs to an ENI. Any other ENI that the book has one of them on lost it: the answer to its
  /// unassign was lost, or EC2 removed it.
  ///
  /// - Returns: the CIDRs to add. A call with a lost answer may remove the others again: a later listing decides.
  mutating func given(_ prefixes: [IPPrefix], to eni: ENIID, _ now: PoolInstant) -> [IPPrefix] {
    var sure: [IPPrefix] = []
    for prefix in prefixes {
      moves[prefix] = nil
      if let cidr = book.cidrOf[prefix], book.enis[book.cidrs[cidr].slot].id != eni { lose(cidr: cidr) }
      if let until = recent.lateReturns[Place(prefix, eni)], until > now, book.cidrOf[prefix] == nil {
        recent.unproven[prefix] = eni
        continue
      }
      recent.given[prefix] = now + settings.timings.quarantine
      recent.returned[Place(prefix, eni)] = nil
      recent.returned[Place(prefix, nil)] = nil
      recent.unproven[prefix] = nil
      sure.append(prefix)
    }
    return sure
  }

  /// A listing that shows a recently unassigned CIDR may be stale, or EC2 has reassigned it in a call whose answer was
  /// lost. A later listing decides.
  mutating func noteUnproven(_ listing: ENIListing) {
    recent.unproven = [:]
    guard recent.hasDoubt else { return }
    for eni in listing.enis {
      guard let slot = book.slotOf[eni.id] else { continue }
      for prefix in eni.cidrs where recent.isDoubtful(prefix, on: eni.id) {
        if let cidr = book.cidrOf[prefix], book.cidrs[cidr].slot == slot { continue }
        recent.unproven[prefix] = eni.id
      }
    }
  }
}

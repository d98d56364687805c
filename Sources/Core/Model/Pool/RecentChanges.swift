// SPDX-License-Identifier: Apache-2.0

/// What has just changed at EC2, as its answers to calls said, and until when a listing may not show it as it is.
///
/// EC2's listings are eventually consistent: one may be up to a minute old (`PoolTimings.quarantine`). An answer to a call
/// is newer than a listing, so for that minute it is believed and the listing is not. A call whose answer nobody heard may
/// be carried out after a later one. Every instant is compared with the moment at which a listing was asked for.
///
///   given, attached     the listing may lack it                  it stays
///   returned, freed     the listing may still show it            it is not entered
///   a late call         it may go although it is shown           it is not entered; what leaves is given back again
///   unproven            shown, and one of the two above          it takes a slot; a listing after that minute decides
struct RecentChanges: Sendable {
  /// What EC2 gave in answer to a call.
  var given: [IPPrefix: PoolInstant] = [:]
  /// ENIs that were attached, or shown for the first time.
  var attachedENIs: [ENIID: PoolInstant] = [:]
  /// What was given back, or went from a listing.
  var returned: [IPPrefix: PoolInstant] = [:]
  /// ENIs that were freed.
  var freedENIs: [ENIID: PoolInstant] = [:]
  /// What a call that nobody heard the answer of may still take away.
  var lateReturns: [IPPrefix: PoolInstant] = [:]
  /// ENIs that such a call may still take off.
  var lateFrees: [ENIID: PoolInstant] = [:]
  /// CIDRs that the last listing showed although they are doubtful, and on which ENI.
  var unproven: [IPPrefix: ENIID] = [:]

  /// Forgets what a listing that was asked for then must show as it is.
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

  /// Whether a listing that shows a CIDR may be an old one, or what it shows may be taken away by a call made before.
  func isDoubtful(_ prefix: IPPrefix) -> Bool { returned[prefix] != nil || lateReturns[prefix] != nil }

  var hasDoubt: Bool { !returned.isEmpty || !lateReturns.isEmpty }

  /// When a listing that is asked for tells the first of what is unproven.
  var provableAt: PoolInstant? {
    guard !unproven.isEmpty else { return nil }
    return unproven.keys.compactMap { [returned[$0], lateReturns[$0]].compactMap { $0 }.max() }.min()
  }

  /// Slots of an ENI that unproven CIDRs take.
  func unprovenSlots(of eni: ENIID) -> Int { unproven.isEmpty ? 0 : unproven.values.count { $0 == eni } }
}

extension Pool {
  /// EC2 has just given CIDRs to an ENI. Another that was thought to have one has it no more: the answer to its return was
  /// lost, or it was taken away.
  ///
  /// - Returns: what may be entered. The rest a call that nobody heard the answer of may take away again: a listing that is
  ///   asked for after that tells.
  mutating func given(_ prefixes: [IPPrefix], to eni: ENIID, _ now: PoolInstant) -> [IPPrefix] {
    var sure: [IPPrefix] = []
    for prefix in prefixes {
      moves[prefix] = nil
      if let cidr = book.cidrOf[prefix], book.enis[book.cidrs[cidr].slot].id != eni { lose(cidr: cidr) }
      if let until = recent.lateReturns[prefix], until > now, book.cidrOf[prefix] == nil {
        recent.returned[prefix] = until
        recent.unproven[prefix] = eni
        continue
      }
      recent.given[prefix] = now + settings.timings.quarantine
      recent.returned[prefix] = nil
      recent.unproven[prefix] = nil
      sure.append(prefix)
    }
    return sure
  }

  /// A listing that shows what was given back a moment ago may be an old one, or EC2 has assigned it anew in a call whose
  /// answer was lost. A later listing tells.
  mutating func noteUnproven(_ listing: ENIListing) {
    recent.unproven = [:]
    guard recent.hasDoubt else { return }
    for eni in listing.enis {
      guard let slot = book.slotOf[eni.id] else { continue }
      for prefix in eni.cidrs where recent.isDoubtful(prefix) {
        if let cidr = book.cidrOf[prefix], book.cidrs[cidr].slot == slot { continue }
        recent.unproven[prefix] = eni.id
      }
    }
  }
}

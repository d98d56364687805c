// SPDX-License-Identifier: Apache-2.0

/// The arithmetic of WARM_ENI_TARGET, WARM_IP_TARGET, MINIMUM_IP_TARGET and WARM_PREFIX_TARGET.
///
/// The reference's formulas with three differences: an address in cooldown is not free, a waiting pod always counts as
/// demand, and the warm pool never exceeds what the node's pod limit can use.
struct Targets: Sendable {
  let settings: PoolSettings
  /// Usable addresses, those on their way included.
  var total: Int
  /// In use, and promised to attachments that wait.
  var assigned: Int
  var cooling: Int
  /// CIDRs with nothing in use and nothing in cooldown.
  var idleCIDRs: Int
  var cidrs: Int
  /// In use, but of CIDRs that do not count: the other mode's, an excluded ENI's, taken away by EC2.
  var stranded: Int

  /// Can be given out; negative where more wait than there is.
  var available: Int { total - assigned - cooling }

  /// Addresses to ask for beyond what is there and on its way, for the warm targets and the waiters together; what
  /// waiters alone need is the least it can be.
  var shortage: Int {
    let warm = min(warmShortage, max(settings.maxPods - stranded - total, 0))
    return max(urgentShortage, warm)
  }

  /// What attachments that wait lack, as far as the pod limit has room: cooling addresses do not fill it.
  var urgentShortage: Int {
    min(max(-available, 0), max(settings.maxPods - stranded - (total - cooling), 0))
  }

  private var warmShortage: Int {
    if settings.isWarmIPMode {
      return max(settings.warmIPTarget - available, settings.minimumIPTarget - total, 0)
    }
    let (unit, warm) = enforcedWarm
    if available < unit * warm { return unit * warm - available }
    return warm == 0 && available <= 0 ? 1 - available : 0
  }

  /// The unit that the warm target counts in, as a number of addresses, and the target.
  private var enforcedWarm: (unit: Int, count: Int) {
    settings.usesPrefixes
      ? (PoolSettings.addressesPerPrefix, settings.warmPrefixTarget)
      : (settings.slotsPerENI, settings.warmENITarget)
  }

  /// Whether growth fills an ENI to its limit rather than asking for the shortage alone.
  var fillsWholeENIs: Bool { !settings.isWarmIPMode && !settings.usesPrefixes }

  /// Idle CIDRs that can go back to EC2.
  var surplus: Int {
    if settings.isWarmIPMode {
      guard settings.usesPrefixes else {
        return max(min(available - settings.warmIPTarget, total - settings.minimumIPTarget, idleCIDRs), 0)
      }
      let perPrefix = PoolSettings.addressesPerPrefix
      let neededWarm = Targets.units(assigned + cooling + settings.warmIPTarget, of: perPrefix)
      let neededMinimum = Targets.units(settings.minimumIPTarget, of: perPrefix)
      return max(min(idleCIDRs, cidrs - neededWarm, cidrs - neededMinimum), 0)
    }
    return settings.usesPrefixes ? max(idleCIDRs - settings.warmPrefixTarget, 0) : 0
  }

  /// Addresses that can go without a shortage. Where single addresses stand in for prefixes, a count of CIDRs says nothing
  /// of that: what went back would be asked for again, for ever.
  var spare: Int {
    if settings.isWarmIPMode {
      return max(min(available - settings.warmIPTarget, total - settings.minimumIPTarget), 0)
    }
    let (unit, warm) = enforcedWarm
    return max(available - unit * warm, 0)
  }

  /// The same pool without an ENI on which nothing is in use.
  func without(_ counts: AddressCounts) -> Targets {
    var rest = self
    rest.total -= counts.total
    rest.assigned -= counts.assigned
    rest.cooling -= counts.cooling
    rest.idleCIDRs -= counts.idleCIDRs
    rest.cidrs -= counts.cidrs
    return rest
  }

  static func units(_ addresses: Int, of size: Int) -> Int { (max(addresses, 0) + size - 1) / size }
}

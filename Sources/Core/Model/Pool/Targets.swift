// SPDX-License-Identifier: Apache-2.0

/// The arithmetic of WARM_ENI_TARGET, WARM_IP_TARGET, MINIMUM_IP_TARGET and WARM_PREFIX_TARGET.
///
/// The formulas of amazon-vpc-cni-k8s with three differences: an address in cooldown is not free, a waiting pod always
/// counts as demand, and the warm pool never exceeds what the node's pod limit can use.
struct Targets: Sendable {
  let settings: PoolSettings
  /// Usable addresses, including requested ones.
  var total: Int
  /// In use, plus those needed by waiting attachments.
  var assigned: Int
  var cooling: Int
  /// CIDRs with nothing in use and nothing in cooldown.
  var idleCIDRs: Int
  var cidrs: Int
  /// In use, but in CIDRs that do not count: the other mode's, an excluded ENI's, or removed by EC2.
  var stranded: Int

  /// Can be assigned; negative if more pods wait than addresses are free.
  var available: Int { total - assigned - cooling }

  /// Addresses to request beyond current and requested ones, for warm targets and waiters together; at least what the
  /// waiters need.
  var shortage: Int {
    let warm = min(warmShortage, max(settings.maxPods - stranded - total, 0))
    return max(urgentShortage, warm)
  }

  /// Addresses that waiting attachments lack, within max pods: addresses in cooldown do not count against it.
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
      ? (settings.prefixSize, settings.warmPrefixTarget)
      : (settings.slotsPerENI, settings.warmENITarget)
  }

  /// Whether growth fills an ENI to its limit instead of requesting only the shortage.
  var fillsWholeENIs: Bool { !settings.isWarmIPMode && !settings.usesPrefixes }

  /// Idle CIDRs that can be unassigned.
  var surplus: Int {
    guard settings.family == .ipv4 else { return 0 }
    if settings.isWarmIPMode {
      guard settings.usesPrefixes else {
        return max(min(available - settings.warmIPTarget, total - settings.minimumIPTarget, idleCIDRs), 0)
      }
      let perPrefix = settings.prefixSize
      let neededWarm = Targets.units(assigned + cooling + settings.warmIPTarget, of: perPrefix)
      let neededMinimum = Targets.units(settings.minimumIPTarget, of: perPrefix)
      return max(min(idleCIDRs, cidrs - neededWarm, cidrs - neededMinimum), 0)
    }
    return settings.usesPrefixes ? max(idleCIDRs - settings.warmPrefixTarget, 0) : 0
  }

  /// Addresses that can be unassigned without causing a shortage. While single addresses replace prefixes, the count of
  /// CIDRs is misleading: unassigned ones would be requested again, endlessly.
  var spare: Int {
    if settings.isWarmIPMode {
      return max(min(available - settings.warmIPTarget, total - settings.minimumIPTarget), 0)
    }
    let (unit, warm) = enforcedWarm
    return max(available - unit * warm, 0)
  }

  /// The same pool without one idle ENI.
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

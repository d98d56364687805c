// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel

/// Which subnets new ENIs are made in, by their tags and free addresses. A value, no I/O.
///
///   tag kubernetes.io/role/cni    the primary ENI's subnet    another of the zone
///   absent                        used                        not used
///   "0"                           excluded                    excluded
///   anything else                 used, where the cluster's tags allow it; otherwise excluded
///
/// The cluster tags allow a subnet without such tags, a subnet that names this cluster, and any subnet if CLUSTER_NAME
/// is unset. A subnet that EC2 does not show (in another account) is not excluded.
struct SubnetChoice: Sendable, Hashable {
  /// For new ENIs, most free addresses first; never empty.
  let ordered: [SubnetID]
  let excluded: Set<SubnetID>
  /// Facts from EC2 about them and the excluded subnets.
  let uses: [SubnetUse]

  static let roleKey = "kubernetes.io/role/cni"
  static let clusterPrefix = "cni.networking.k8s.aws/cluster/"

  /// Only the primary subnet: no other is known.
  init(primary: SubnetID) {
    ordered = [primary]
    excluded = []
    uses = []
  }

  /// - Parameter subnets: all of the VPC and zone.
  init(_ subnets: [EC2Subnet], primary: SubnetID, clusterName: String) {
    var candidates: [SubnetUse] = []
    var excluded: Set<SubnetID> = []
    var uses: [SubnetUse] = []
    var isPrimarySeen = false
    for subnet in subnets {
      guard let id = SubnetID(subnet.id) else { continue }
      if id == primary { isPrimarySeen = true }
      let role = subnet.tags[SubnetChoice.roleKey]
      guard let role else {
        let use = SubnetUse(id: id, freeAddresses: subnet.availableAddresses, isExcluded: false)
        if id == primary { candidates.append(use) }
        continue
      }
      let isExcluded = role == "0" || !SubnetChoice.isAllowed(subnet.tags, clusterName)
      let use = SubnetUse(id: id, freeAddresses: subnet.availableAddresses, isExcluded: isExcluded)
      if isExcluded {
        excluded.insert(id)
        uses.append(use)
      } else {
        candidates.append(use)
      }
    }
    candidates.sort { ($1.freeAddresses ?? 0, $0.id) < ($0.freeAddresses ?? 0, $1.id) }
    var ordered = candidates.map(\.id)
    if !isPrimarySeen { ordered.append(primary) }
    // If all subnets are excluded, the primary stays in the list, so that the refusal can name it.
    self.ordered = ordered.isEmpty ? [primary] : ordered
    self.excluded = excluded
    self.uses = candidates + uses.sorted { $0.id < $1.id }
  }

  private static func isAllowed(_ tags: [String: String], _ clusterName: String) -> Bool {
    guard !clusterName.isEmpty else { return true }
    let clusters = tags.keys.filter { $0.hasPrefix(clusterPrefix) }
    return clusters.isEmpty || clusters.contains(clusterPrefix + clusterName)
  }
}

/// When the subnets are listed again. A value: the caller asks, waits and reports the result.
///
/// A node that does not grow does not need free-address counts, so it does not list subnets.
struct SubnetRhythm: Sendable {
  /// Why the listing is needed.
  enum Hint: Sendable, Hashable {
    /// An ENI is being created.
    case growing
    /// A subnet had no room.
    case full
  }

  private(set) var readAt: ContinuousClock.Instant?
  private var isReading = false
  private var failures = 0
  /// After a failure: the time of the next try, even without a request.
  private(set) var retryAt: ContinuousClock.Instant?

  static let maximumAge = Duration.seconds(300)
  static let maximumAgeWhenFull = Duration.seconds(30)

  mutating func began() { isReading = true }

  mutating func succeeded(_ now: ContinuousClock.Instant) {
    isReading = false
    readAt = now
    failures = 0
    retryAt = nil
  }

  /// - Parameter random: 0 ..< 1.
  /// - Returns: the wait until the next try: a minute, four, sixteen, then an hour, give or take a quarter.
  mutating func failed(_ now: ContinuousClock.Instant, random: Double) -> Duration {
    isReading = false
    failures += 1
    let wait = min(.seconds(60) * (1 << (2 * min(failures - 1, 5))), .seconds(3600)) * (0.75 + 0.5 * random)
    retryAt = now.advanced(by: wait)
    return wait
  }

  /// Whether it is time to list for this reason; not while a listing is under way.
  func isDue(_ hint: Hint, _ now: ContinuousClock.Instant) -> Bool {
    guard !isReading else { return false }
    if let retryAt { return retryAt <= now }
    guard let readAt else { return true }
    let age = readAt.duration(to: now)
    return age >= (hint == .full ? SubnetRhythm.maximumAgeWhenFull : SubnetRhythm.maximumAge)
  }
}

// SPDX-License-Identifier: Apache-2.0

/// The settings that the pool uses, with the instance's limits.
package struct PoolSettings: Sendable, Hashable {
  /// The network card whose ENIs the pool manages: each card has a pool and a checkpoint of its own.
  package var card = 0
  /// The family of pods' addresses. With IPv6 each ENI gets one prefix (/80), which is kept as long as the ENI: no warm
  /// target applies.
  package var family = AddressFamily.ipv4
  /// ENIs that the instance type allows on the card, the primary included.
  package var instanceENILimit: Int
  /// Addresses or prefixes per ENI besides its primary address: the type's IPv4 limit minus one.
  package var slotsPerENI: Int
  /// MAX_ENI; nil if unset.
  package var maxENI: Int?
  /// Pods that the node may have.
  package var maxPods: Int
  package var warmENITarget: Int
  /// 0 is unset.
  package var warmIPTarget: Int
  /// 0 is unset.
  package var minimumIPTarget: Int
  package var warmPrefixTarget: Int
  /// ENABLE_PREFIX_DELEGATION, if the instance type supports it.
  package var usesPrefixes: Bool
  /// AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG: no pod on the primary ENI.
  package var usesCustomNetworking: Bool
  /// IP_COOLDOWN_PERIOD.
  package var cooldown: Duration
  /// False with DISABLE_NETWORK_RESOURCE_PROVISIONING.
  package var provisions: Bool
  /// AWS_MANAGE_ENIS_NON_SCHEDULABLE.
  package var managesUnschedulable: Bool
  package var timings: PoolTimings

  package init(
    instanceENILimit: Int, slotsPerENI: Int, maxENI: Int? = nil, maxPods: Int = 110, warmENITarget: Int = 1,
    warmIPTarget: Int = 0, minimumIPTarget: Int = 0, warmPrefixTarget: Int = 0, usesPrefixes: Bool = false,
    usesCustomNetworking: Bool = false, cooldown: Duration = .seconds(30), provisions: Bool = true,
    managesUnschedulable: Bool = false, timings: PoolTimings = PoolTimings()
  ) {
    self.instanceENILimit = instanceENILimit
    self.slotsPerENI = slotsPerENI
    self.maxENI = maxENI
    self.maxPods = maxPods
    self.warmENITarget = warmENITarget
    self.warmIPTarget = warmIPTarget
    self.minimumIPTarget = minimumIPTarget
    self.warmPrefixTarget = warmPrefixTarget
    self.usesPrefixes = usesPrefixes
    self.usesCustomNetworking = usesCustomNetworking
    self.cooldown = cooldown
    self.provisions = provisions
    self.managesUnschedulable = managesUnschedulable
    self.timings = timings
  }

  /// ENIs that may be attached in total: the lower of the type's limit and MAX_ENI, if that is 1 or more.
  package var eniLimit: Int {
    if let maxENI, maxENI >= 1 { return min(maxENI, instanceENILimit) }
    return instanceENILimit
  }

  /// WARM_IP_TARGET or MINIMUM_IP_TARGET is set: the other two targets are ignored.
  package var isWarmIPMode: Bool { warmIPTarget != 0 || minimumIPTarget != 0 }

  /// The kind that growth requests if the subnet has it.
  package var kind: CIDRKind { usesPrefixes ? .prefix : .address }

  /// A delegated IPv4 prefix is a /28.
  package static let addressesPerPrefix = 16
  /// Addresses of a delegated prefix that pods can get: of a /80 as many as the pool counts.
  package var prefixSize: Int { family == .ipv4 ? PoolSettings.addressesPerPrefix : (1 << 16) - 1 }
}

/// Intervals of the pool. The defaults are those of amazon-vpc-cni-k8s if it has the same interval.
package struct PoolTimings: Sendable, Hashable {
  /// No growth in a subnet that was full.
  package var subnetPause: Duration = .seconds(120)
  /// In a subnet without a free prefix, single addresses are used this long before prefixes are tried again.
  package var prefixFallback: Duration = .seconds(600)
  /// Between two rounds of unassigning addresses.
  package var shrinkInterval: Duration = .seconds(30)
  /// An ENI younger than this is not freed.
  package var minimumENIAge: Duration = .seconds(60)
  /// How long an unassigned address counts as gone even if a listing shows it: IMDS lags.
  package var quarantine: Duration = .seconds(60)
  /// Waits after a failed call: doubled by each consecutive failure up to the second value, with jitter.
  package var backoff: ClosedRange<Duration> = .seconds(1) ... .seconds(60)
  /// The longest wait between two tries of a call within an action.
  package var heldRetry: Duration = .seconds(8)
  /// The same after UnauthorizedOperation.
  package var permissionBackoff: ClosedRange<Duration> = .seconds(60) ... .seconds(600)
  /// The same after AttachmentLimitExceeded: a try costs three calls, and volumes come and go with pods.
  package var attachmentBackoff: ClosedRange<Duration> = .seconds(60) ... .seconds(1800)
  /// How long a device index that EC2 reported as taken is skipped, unless its ENI appears.
  package var takenDevice: Duration = .seconds(600)
  /// The maximum number of waiting ADDs.
  package var maximumWaiters = 4096

  package init() {}
}

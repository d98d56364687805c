// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// One burst: idle nodes with a filled warm pool, then all pods at once.
package struct Scenario: Sendable {
  package var name: String
  package var nodes: Int
  package var podsPerNode: Int
  package var settings: PoolSettings
  package var seed: UInt64
  /// The cluster has 1/share of EC2's request buckets; at most 50, or the smallest bucket holds no whole token.
  package var share = 1
  /// All pods of a node start within this time.
  package var spread = Duration.seconds(1)
  /// How long our plugin waits for an address before the sandbox fails.
  package var patience = Duration.seconds(20)
  /// Whether our agent tries a refused Attach or Modify again before it takes the new ENI back.
  package var retriesTail = true
  /// Whether the SDK of amazon-vpc-cni-k8s uses its client token bucket.
  package var sdkTokens = true

  package init(name: String, nodes: Int, podsPerNode: Int, settings: PoolSettings, seed: UInt64) {
    self.name = name
    self.nodes = nodes
    self.podsPerNode = podsPerNode
    self.settings = settings
    self.seed = seed
  }

  package var pods: Int { nodes * podsPerNode }

  /// CIDRs on the primary ENI of an idle node: the warm target, filled.
  package var warmCIDRs: Int { settings.usesPrefixes ? settings.warmPrefixTarget : settings.slotsPerENI }

  /// The three cases of the project's target. Limits and pods per node are those of EC2 and EKS.
  package static func standard(nodes: Int, seed: UInt64) -> [Scenario] {
    let large = limits("m5.large")
    let big = limits("m5.4xlarge")
    return [
      Scenario(
        name: "m5.4xlarge", nodes: nodes, podsPerNode: 46,
        settings: PoolSettings(instanceENILimit: big.enis, slotsPerENI: big.slots, maxPods: 234), seed: seed),
      Scenario(
        name: "m5.large", nodes: nodes, podsPerNode: 20,
        settings: PoolSettings(instanceENILimit: large.enis, slotsPerENI: large.slots, maxPods: 29), seed: seed),
      Scenario(
        name: "m5.4xlarge-prefixes", nodes: nodes, podsPerNode: 46,
        settings: PoolSettings(
          instanceENILimit: big.enis, slotsPerENI: big.slots, maxPods: 110, warmPrefixTarget: 1, usesPrefixes: true),
        seed: seed),
    ]
  }

  private static func limits(_ type: String) -> (enis: Int, slots: Int) {
    guard let found = InstanceLimits(instanceType: type) else { preconditionFailure("\(type) is in the table") }
    return (found.eniLimit, found.ipv4Limit - 1)
  }

  // MARK: the bound

  /// The fewest calls that give every pod of one node an address.
  package var fewestCalls: [EC2Action: Int] {
    let unit = settings.usesPrefixes ? PoolSettings.addressesPerPrefix : 1
    let missing = podsPerNode - warmCIDRs * unit
    guard missing > 0 else { return [:] }
    let cidrs = (missing + unit - 1) / unit
    let room = settings.slotsPerENI - warmCIDRs
    var calls: [EC2Action: Int] = room > 0 ? [.assignPrivateIpAddresses: 1] : [:]
    let enis = (max(cidrs - room, 0) + settings.slotsPerENI - 1) / settings.slotsPerENI
    if enis > 0 {
      calls[.createNetworkInterface] = enis
      calls[.attachNetworkInterface] = enis
      calls[.modifyNetworkInterfaceAttribute] = enis
    }
    return calls
  }

  /// When the buckets admit the last of these calls if no token is lost; no policy is faster.
  package var bound: (action: EC2Action, seconds: Double)? {
    fewestCalls.map { action, calls in
      let waiting = max(calls * nodes * share - action.bucket.capacity, 0)
      return (action, Double(waiting) / Double(action.bucket.refillPerSecond))
    }.max { ($0.1, $1.0.rawValue) < ($1.1, $0.0.rawValue) }
  }
}

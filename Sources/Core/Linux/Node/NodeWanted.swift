// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// All that a node's kernel should hold for its ENIs: their links, route tables and rules, the source map, and the rules
/// that exist once per node.
///
/// A value, always derived as a whole, never patched: from the pools (`WantedENIs`), the facts that EC2 and IMDS have
/// about each ENI, and the settings. What the kernel itself shows of earlier runs is in `NodeScheme`.
package struct NodeWanted: Sendable, Hashable {
  /// One ENI that pods use.
  package struct ENI: Sendable, Hashable {
    package var device: Int
    package var card: Int
    package var table: RouteTable
    /// Pods' addresses and prefixes.
    package var sources: Set<IPPrefix>
    /// The ENI's own address, which no pod has; nil while unknown.
    package var address: IPAddress?
    /// Identifies its link; nil while unknown.
    package var mac: MACAddress?
    /// The CIDR of its subnet; nil while unknown.
    package var subnet: IPPrefix?

    package var isPrimary: Bool { device == 0 && card == 0 }

    /// - Parameter eni: its `cidrs` are the sources.
    package init(_ eni: ENIObservation, address: IPAddress?, mac: MACAddress?, subnet: IPPrefix?) {
      device = eni.device
      card = eni.card
      table = eni.table
      sources = Set(eni.cidrs)
      self.address = address
      self.mac = mac
      self.subnet = subnet
    }
  }

  /// That of the pool's value: the higher number is newer.
  package var generation: UInt64
  package var settings: NetworkSettings
  package var enis: [ENIID: ENI]

  package init(generation: UInt64 = 0, settings: NetworkSettings, enis: [ENIID: ENI] = [:]) {
    self.generation = generation
    self.settings = settings
    self.enis = enis
  }

  /// Without addresses and prefixes that are in doubt.
  package func without(_ cidrs: Set<IPPrefix>) -> NodeWanted {
    var rest = self
    for id in enis.keys { rest.enis[id]?.sources.subtract(cidrs) }
    return rest
  }

  /// The ENI that has a pod's address; a single address takes precedence over a prefix.
  package func eni(of address: IPAddress) -> (key: ENIID, value: ENI)? {
    let single = IPPrefix(single: address)
    return enis.first { $0.value.sources.contains(single) }
      ?? enis.first { $0.value.sources.contains { !$0.isSingle && $0.contains(address) } }
  }

  /// The sources that the map does not contain: those of the primary ENI.
  package var unmarked: Set<IPPrefix> {
    enis.values.filter(\.isPrimary).reduce(into: []) { $0.formUnion($1.sources) }
  }

  /// The mark of an ENI's packets: its device index in the lowest bits of the mask, so that it is the same after a
  /// restart. Nil for the primary ENI, and for a device index that the mask cannot express.
  package func mark(of eni: ENI) -> UInt32? {
    let value = UInt32(clamping: eni.device) << UInt32(settings.eniMarkMask.trailingZeroBitCount)
    guard !eni.isPrimary, eni.card == 0, value != 0, value & ~settings.eniMarkMask == 0 else { return nil }
    return value
  }

  /// The rules that exist once per node.
  package func rules(_ family: AddressFamily, _ scheme: NodeScheme) -> NodeRules {
    var rules = NodeRules(
      family: family, leadsToPodsTable: scheme.usesMap, primaryMark: settings.primaryMark,
      externalServices: settings.externalServiceCIDRs)
    rules.keepsPodsTable = scheme.otherStands
    rules.earlierMarks = scheme.earlier.marks
    return rules
  }

  /// The source map, without what running pods still need besides.
  package func marks(_ scheme: NodeScheme) -> ENIMarks {
    var marks = ENIMarks(
      mask: settings.eniMarkMask, vethPrefix: settings.vethPrefix, families: Set(settings.families))
    marks.earlierVethPrefixes = scheme.earlier.vethPrefixes
    for (id, eni) in enis {
      marks.enis[id] = mark(of: eni).map { ENIMarks.ENI(mark: $0, sources: eni.sources, address: eni.address) }
    }
    return marks
  }

  /// Link, table and rules of an ENI; nil while a fact about it is unknown.
  package func wiring(of eni: ENI, _ scheme: NodeScheme) -> ENIWiring? {
    guard let mac = eni.mac, let address = eni.address, let subnet = eni.subnet else { return nil }
    let mark = scheme.usesMap ? mark(of: eni).map { PacketMark(value: $0, mask: settings.eniMarkMask) } : nil
    var wiring = ENIWiring(
      mac: mac, address: address, subnet: subnet, mtu: settings.mtu, table: eni.table, mark: mark)
    wiring.slots = eni.sources
    wiring.keepsMarkRule = scheme.otherStands
    return wiring
  }
}

/// How the node routes pods' packets, and what the kernel shows of earlier runs.
package struct NodeScheme: Sendable, Hashable {
  /// The constant scheme, with the source map; false for one pair of rules for each pod.
  package var usesMap: Bool
  /// Pods may still depend on the other scheme: its state stays until none does.
  package var otherStands: Bool
  /// State of earlier settings that is still in use.
  package var earlier: EarlierSettings

  package init(usesMap: Bool, otherStands: Bool = false, earlier: EarlierSettings = EarlierSettings()) {
    self.usesMap = usesMap
    self.otherStands = otherStands
    self.earlier = earlier
  }

  /// How packets are routed to pods.
  package var routing: HostRouting { usesMap ? .table(.pods) : .perPodRules }
}

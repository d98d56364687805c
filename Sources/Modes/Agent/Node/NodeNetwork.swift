// SPDX-License-Identifier: Apache-2.0
//
// The node's kernel state outside of pods: policy rules, the ENIs' links and tables, the source map, SNAT. Values of
// VPCLinux (ENIWiring, NodeRules, ENIMarks, HostRules) define the desired state; this actor applies it. The order of
// docs/decisions/0004 applies everywhere: reverse path, routes, rule 512, source map, rules 1536.

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Owns the node's network state. All its work blocks, so it has its own thread.
actor NodeNetwork {
  /// The settings that the node network depends on.
  struct Configuration: Sendable {
    var mtu: UInt32
    var vethPrefix: String
    var eniMarkMask: UInt32
    /// VPC_CNI_POD_RULES=constant.
    var wantsConstantRules: Bool
    /// Rule 1024 is needed.
    var usesPrimaryMark: Bool
    var primaryMark: PacketMark
    var usesExternalSNAT: Bool
    var excludedSNATCIDRs: [IPPrefix]
    var snatPorts: HostRules.Randomization
    var supportsNodePorts: Bool
    var externalServiceCIDRs: [IPPrefix]
  }

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  let configuration: Configuration
  let socket: NetlinkSocket
  let cleanup: HostCleanup
  let removals = PendingRemovals()
  let logger: Logger
  /// Nil in the per-pod scheme.
  private(set) var marks: ENIMarkTable?
  private var openNftables: NftablesSocket?
  /// MACs already logged as shared by several links.
  private var told: Set<MACAddress> = []
  /// Managed ENIs, the primary among them.
  var enis: [ENIID: ManagedENI] = [:]
  /// Sources that the kernel routed for running pods at startup although no listing has them. An entry is removed when
  /// an ENI that has it is set up, and with its ENI.
  var kept: [ENIID: ENIMarks.ENI] = [:]
  /// Pods' host veths as first seen.
  var veths: PodVeths
  /// State of earlier settings that is still in use.
  var earlier = EarlierSettings()
  /// Pods may still depend on the other routing scheme: its state stays until none does.
  var otherSchemeStands = true
  let startedUnixNanoseconds = PoolClock.now().unixNanoseconds
  /// Rings when an ENI was set up: its pods' state of the other scheme can be removed.
  let wiredBell = Bell()
  /// Rings when a pod's veth is gone.
  let podEndedBell = Bell()
  nonisolated let hostRules: HostRulesKeeper

  /// How long EC2 and the kernel may take to show a link after the attachment.
  private static let linkDeadline = Duration.seconds(30)

  /// To be made in the node's network namespace.
  ///
  /// - Parameter observe: receives the report of each application of the firewall rules.
  init(
    configuration: Configuration, logger: Logger, observe: @escaping @Sendable (FirewallReport) -> Void = { _ in }
  ) throws {
    executor = try ThreadExecutor(name: "kernel")
    socket = try NetlinkSocket()
    cleanup = try HostCleanup(logger: logger)
    hostRules = try HostRulesKeeper(configuration: configuration, logger: logger, observe: observe)
    self.configuration = configuration
    self.logger = logger
    veths = PodVeths(prefix: configuration.vethPrefix)
  }

  /// An ENI of this node that pods use.
  struct ManagedENI: Sendable {
    let table: RouteTable
    let isPrimary: Bool
    /// The mark of its pods' packets; nil for the primary.
    let mark: UInt32?
    /// Its primary address, which no pod has.
    let address: IPAddress?
    /// Addresses and prefixes that EC2 assigned to it for pods.
    var slots: Set<IPPrefix>
    /// Desired state of its link, table and rules, and the link's index; nil until it was set up.
    var wiring: (wanted: ENIWiring, link: UInt32)?

    init(_ eni: ENIObservation, mark: UInt32?) {
      self.mark = mark
      address = eni.primaryAddress
      table = eni.routeTable ?? .eni(device: eni.device, card: eni.card)
      isPrimary = eni.isPrimary
      slots = Set(eni.cidrs)
    }
  }

  /// The table for pods' host routes; nil with the contract's per-pod rules.
  var podRouteTable: RouteTable? { marks == nil ? nil : .pods }

  /// How packets are routed to pods.
  var routing: HostRouting { marks == nil ? .perPodRules : .table(.pods) }

  // MARK: start

  /// Sets up the state that does not depend on ENIs: rules 512, 1024 and 1535, and the source map.
  ///
  /// - Parameter enis: the attached ENIs, so that the map is complete from its first transaction on.
  /// - Returns: addresses and prefixes of running pods that the kernel routes by a different ENI than the listing
  ///   shows. They stay unchanged until EC2 has been asked again.
  /// - Throws: also if the primary ENI's name matches the veth prefix.
  func setUp(primary: MACAddress, enis: [ENIObservation]) throws -> Set<IPPrefix> {
    try checkVethPrefix(primary)
    try findEarlierSettings()
    for eni in enis where eni.isManaged { self.enis[eni.id] = ManagedENI(eni, mark: try mark(of: eni)) }
    openMarks()
    let contested = try keepWhatRuns()
    report(try nodeRules.apply(on: socket), what: "policy rules")
    try removeDeadENIs(besides: enis)
    try writeMarks()
    return contested
  }

  /// Leftovers of ENIs whose links are gone.
  private func removeDeadENIs(besides enis: [ENIObservation]) throws {
    var tables = Set(enis.map { ManagedENI($0, mark: nil).table })
    // Nothing is removed for an ENI that running pods use, even if the listing lacks it.
    let marks = Set(kept.values.map(\.mark))
    for rule in try PolicyRule.list(.ipv4, on: socket) where rule.mark.map({ marks.contains($0.value) }) ?? false {
      tables.insert(rule.table)
    }
    report(try ENIWiring.removeDead(besides: tables, family: .ipv4, on: socket), what: "policy rules of removed ENIs")
  }

  /// Writes the source map for the first time. If the kernel refuses it, such as without the ip family in nf_tables,
  /// the per-pod scheme is used, as without nf_tables.
  private func writeMarks() throws {
    guard let marks else { return }
    do throws(NftablesError) {
      let changed = try marks.apply(wantedMarks)
      if !changed.isEmpty { logger.notice("source map written", metadata: ["changes": "\(changed.count)"]) }
    } catch {
      guard error.code == .refused, !error.isTransient else { throw error }
      logger.warning(
        "nftables refuses the source map; using per-pod policy rules",
        metadata: ["error": "\(CauseChain.text(error))"])
      self.marks = nil
      report(try nodeRules.apply(on: socket), what: "policy rules")
    }
  }

  /// Lowers the primary interface's MTU to the configured value; never raises it.
  ///
  /// Peers of older connections keep sending segments of the old size, which the interface drops: so this runs before
  /// any long-lived connection.
  func lowerMTU(of primary: MACAddress) throws {
    guard let link = try Link.list(on: socket).first(where: { $0.mac == primary }), link.mtu > configuration.mtu
    else { return }
    let metadata: Logger.Metadata = [
      "interface": "\(link.name)", "from": "\(link.mtu)", "to": "\(configuration.mtu)",
    ]
    do {
      try socket.perform(.setMTU(configuration.mtu, of: link.index))
      logger.notice("MTU of the primary interface lowered", metadata: metadata)
    } catch {
      // The ENI's network setup retries and reports it.
      logger.warning(
        "cannot lower the MTU of the primary interface; will retry",
        metadata: metadata.merging(["error": "\(CauseChain.text(error))"]) { old, _ in old })
    }
  }

  private func checkVethPrefix(_ primary: MACAddress) throws {
    let strangers = HostVethName.strangers(among: try Link.list(on: socket), prefix: configuration.vethPrefix)
    if let link = strangers.first(where: { $0.mac == primary }) {
      throw NodeNetworkError.vethPrefixOfENI(prefix: configuration.vethPrefix, link: link.name)
    }
    guard !strangers.isEmpty else { return }
    logger.warning(
      "interfaces of other programs match the veth prefix; pod rules apply to their traffic too",
      metadata: [
        "prefix": "\(configuration.vethPrefix)", "interfaces": "\(strangers.prefix(10).map(\.name))",
        "remedy": "use another AWS_VPC_K8S_CNI_VETHPREFIX (and the plugin's vethPrefix), or rename the interfaces",
      ])
  }

  /// The rules that exist once per node.
  var nodeRules: NodeRules {
    var rules = NodeRules(
      family: .ipv4, leadsToPodsTable: marks != nil,
      primaryMark: configuration.usesPrimaryMark ? configuration.primaryMark : nil,
      externalServices: configuration.externalServiceCIDRs)
    rules.keepsPodsTable = otherSchemeStands
    rules.earlierMarks = earlier.marks
    return rules
  }

  /// Opens nftables for the constant scheme; without it the contract's per-pod rules are used, which is logged.
  func openMarks() {
    guard configuration.wantsConstantRules, marks == nil else { return }
    do {
      marks = ENIMarkTable(socket: try nftables())
    } catch {
      logger.warning(
        "nftables is not available; using per-pod policy rules", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  /// The one socket for all of the agent's tables, opened on first use.
  func nftables() throws(NftablesError) -> NftablesSocket {
    if let openNftables { return openNftables }
    let socket = try NftablesSocket()
    openNftables = socket
    return socket
  }

  /// The port of that socket; nil before it is needed.
  var nftablesPort: UInt32? { openNftables?.port }

  private func report(_ changes: [NodeDifference], what: StaticString) {
    guard !changes.isEmpty else { return }
    logger.notice("\(what) changed", metadata: ["changes": "\(changes.map(\.description))"])
    let removed = changes.compactMap { if case .foreignAddress(let address) = $0 { "\(address)" } else { nil } }
    guard !removed.isEmpty else { return }
    logger.warning(
      "removed foreign addresses from an ENI's interface; all EC2 addresses of a managed ENI are for pods",
      metadata: [
        "addresses": "\(removed)",
        "remedy": "use an ENI with the tag node.k8s.amazonaws.com/no_manage=true for your own addresses",
      ])
  }

  // MARK: ENIs

  /// Brings an ENI's link, table, rules and source map into place and verifies them.
  ///
  /// - Throws: `NodeNetworkError.noLink` if the link does not appear in time; errors of netlink and nftables.
  nonisolated func wire(_ eni: ENIObservation, mac: MACAddress, subnet: IPPrefix) async throws {
    if try await findLink(mac) == nil {
      let deadline = ContinuousClock.now.advanced(by: NodeNetwork.linkDeadline)
      guard try await LinkWait().wait(for: mac, until: deadline) != nil else {
        throw NodeNetworkError.noLink(eni.id, mac)
      }
    }
    try await wirePresent(eni, mac: mac, subnet: subnet)
  }

  func findLink(_ mac: MACAddress) throws -> Link? {
    let links = ENILinks(try Link.find(mac: mac, on: socket))
    if let link = links.best, !links.rivals.isEmpty, told.insert(mac).inserted {
      logger.error(
        "several interfaces have the ENI's MAC address; using the first",
        metadata: [
          "mac": "\(mac)", "taken": "\(link.name)", "others": "\(links.rivals.map(\.name))",
          "remedy": "give the other interfaces their own MAC addresses",
        ])
    }
    return links.best
  }

  private func wirePresent(_ eni: ENIObservation, mac: MACAddress, subnet: IPPrefix) throws {
    guard let link = try findLink(mac) else { throw NodeNetworkError.noLink(eni.id, mac) }
    guard let address = eni.primaryAddress else { throw NodeNetworkError.noAddress(eni.id) }
    var managed = ManagedENI(eni, mark: try mark(of: eni))
    managed.wiring = enis[eni.id]?.wiring
    managed.wiring?.wanted.slots = managed.slots
    claim(managed.slots, for: eni.id)
    try keepInUse(of: eni.id, besides: managed.slots)
    enis[eni.id] = managed
    var mark: PacketMark?
    if let marks {
      // The map before the rule: marks without a rule have no effect.
      try marks.apply(wantedMarks)
      mark = managed.mark.map { PacketMark(value: $0, mask: configuration.eniMarkMask) }
    }
    var wiring = ENIWiring(
      mac: mac, address: address, subnet: subnet, mtu: configuration.mtu, table: managed.table, mark: mark)
    wiring.slots = managed.slots
    wiring.keepsMarkRule = otherSchemeStands
    report(try wiring.apply(to: link, on: socket), what: "network setup of an ENI")
    guard let now = try Link.find(index: link.index, on: socket) else {
      throw NodeNetworkError.noLink(eni.id, mac)
    }
    let left = try wiring.verify(now, on: socket)
    guard left.isEmpty else { throw NodeNetworkError.notAsWanted(eni.id, left) }
    managed.wiring = (wiring, link.index)
    enis[eni.id] = managed
    wiredBell.ring()
  }

  /// Removes what `wire` set up, before the ENI is detached.
  func unwire(_ eni: ENIID) throws {
    // From here on the setup is unwanted, whatever follows: it must not be repaired.
    enis[eni]?.wiring = nil
    if let gone = enis[eni] {
      report(
        try ENIWiring.remove(table: gone.table, family: .ipv4, on: socket), what: "network setup of a detaching ENI")
      enis[eni] = nil
    }
    kept[eni] = nil
    try marks?.apply(wantedMarks)
  }

  /// No pod needs the other routing scheme any more.
  func dropOtherScheme() throws {
    otherSchemeStands = false
    for id in enis.keys { enis[id]?.wiring?.wanted.keepsMarkRule = false }
    guard marks == nil else { return }
    report(try nodeRules.apply(on: socket), what: "policy rules")
    for eni in enis.values {
      guard let wiring = eni.wiring, let link = try Link.find(index: wiring.link, on: socket) else { continue }
      report(try wiring.wanted.apply(to: link, on: socket), what: "network setup of an ENI")
    }
    // Without nf_tables there is no table to remove.
    guard let nftables = try? nftables() else { return }
    do throws(NftablesError) {
      if try ENIMarkTable(socket: nftables).remove() { logger.notice("source map removed; using per-pod policy rules") }
    } catch {
      // Without the mark rules the map has no effect.
      logger.warning("cannot remove the source map", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }
}

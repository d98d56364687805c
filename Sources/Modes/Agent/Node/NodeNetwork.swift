// SPDX-License-Identifier: Apache-2.0
//
// The node's kernel state that is not a pod's own: policy rules, the ENIs' links and tables, the source map, SNAT.
// What it must be is decided by values of VPCLinux (ENIWiring, NodeRules, ENIMarks, HostRules); here they are applied.
// The order of docs/decisions/0004 holds everywhere: reverse path, routes, rule 512, source map, rules 1536.

internal import Logging
internal import VPCLinux
internal import VPCModel

/// Owns the node's network state. All its work blocks, so it has a thread of its own.
actor NodeNetwork {
  /// What of the settings the node's network depends on.
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
  /// MACs of which was said that several links have them.
  private var told: Set<MACAddress> = []
  /// Managed ENIs, the primary among them.
  var enis: [ENIID: ManagedENI] = [:]
  /// What the kernel led running pods' packets by at the start although no listing mentioned it. It goes when an ENI is
  /// wired that has it, and with the ENI.
  var kept: [ENIID: ENIMarks.ENI] = [:]
  /// Pods' host veths as first seen.
  var veths: PodVeths
  /// What was made under other settings and is still in use.
  var earlier = EarlierSettings()
  /// Pods may still depend on the scheme that is not the node's: what of it is there stays until they do not.
  var otherSchemeStands = true
  let startedUnixNanoseconds = PoolClock.now().unixNanoseconds
  /// Rings when an ENI was wired: what its pods have of the other scheme can go.
  let wiredBell = Bell()
  /// Rings when a pod's veth is gone.
  let podEndedBell = Bell()
  nonisolated let hostRules: HostRulesKeeper

  /// How long EC2 and the kernel may take to show a link after the attachment.
  private static let linkDeadline = Duration.seconds(30)

  /// To be made in the node's network namespace.
  ///
  /// - Parameter observe: gets what each application of the firewall rules found and did.
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

  /// An ENI of this node that carries pods.
  struct ManagedENI: Sendable {
    let table: RouteTable
    let isPrimary: Bool
    /// What packets from its pods are marked with; nil for the primary.
    let mark: UInt32?
    /// Its own, which no pod has.
    let address: IPAddress?
    /// Addresses and prefixes that EC2 gave it for pods.
    var slots: Set<IPPrefix>
    /// Nil until it was wired: what its link, table and rules must be, and the link's index.
    var wiring: (wanted: ENIWiring, link: UInt32)?

    init(_ eni: ENIObservation, mark: UInt32?) {
      self.mark = mark
      address = eni.primaryAddress
      table = eni.routeTable ?? .eni(device: eni.device, card: eni.card)
      isPrimary = eni.isPrimary
      slots = Set(eni.cidrs)
    }
  }

  /// The table for pods' host routes; nil where the contract's per-pod rules hold.
  var podRouteTable: RouteTable? { marks == nil ? nil : .pods }

  /// How packets find pods.
  var routing: HostRouting { marks == nil ? .perPodRules : .table(.pods) }

  // MARK: start

  /// Puts in place what does not depend on ENIs: rules 512, 1024 and 1535, and the source map.
  ///
  /// - Parameter enis: what is attached, so that the map is whole from its first transaction on.
  /// - Returns: addresses and prefixes that running pods use by another ENI than the one that the listing shows them on.
  ///   They stay where they are until EC2 has been asked again.
  /// - Throws: also where the primary ENI is called like the pods' interfaces.
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

  /// What ENIs have left that are gone with their links.
  private func removeDeadENIs(besides enis: [ENIObservation]) throws {
    var tables = Set(enis.map { ManagedENI($0, mark: nil).table })
    // Of an ENI that running pods use, though the listing lacks it, nothing is taken away.
    let marks = Set(kept.values.map(\.mark))
    for rule in try PolicyRule.list(.ipv4, on: socket) where rule.mark.map({ marks.contains($0.value) }) ?? false {
      tables.insert(rule.table)
    }
    report(try ENIWiring.removeDead(besides: tables, family: .ipv4, on: socket), what: "policy rules of removed ENIs")
  }

  /// Writes the source map for the first time. A kernel that refuses it, as one whose nf_tables has no ip family, gets the
  /// other scheme, like one without nf_tables.
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

  /// Lowers the primary interface's MTU to the set one; never raises it.
  ///
  /// The other side of a connection that is older goes on sending segments of the old size, and the interface takes none
  /// of them: so this comes before every connection that lasts.
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
      // The wiring of the ENI tries it again, and tells.
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

  /// The rules that stand once.
  var nodeRules: NodeRules {
    var rules = NodeRules(
      family: .ipv4, leadsToPodsTable: marks != nil,
      primaryMark: configuration.usesPrimaryMark ? configuration.primaryMark : nil,
      externalServices: configuration.externalServiceCIDRs)
    rules.keepsPodsTable = otherSchemeStands
    rules.earlierMarks = earlier.marks
    return rules
  }

  /// Opens nftables for the constant scheme; without it the contract's per-pod rules are used, and that is said.
  func openMarks() {
    guard configuration.wantsConstantRules, marks == nil else { return }
    do {
      marks = ENIMarkTable(socket: try nftables())
    } catch {
      logger.warning(
        "nftables is not available; using per-pod policy rules", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  /// The one socket for all tables of ours, opened when it is first needed.
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
  /// - Throws: `NodeNetworkError.noLink` where the link does not show up in time; what netlink and nftables throw.
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
      // The map before the rule: marks without a rule lead to main, as if there were none.
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

  /// Takes down what `wire` put in place, before the ENI is detached.
  func unwire(_ eni: ENIID) throws {
    // No longer wanted from here on, whatever follows: nobody may repair it.
    enis[eni]?.wiring = nil
    if let gone = enis[eni] {
      report(
        try ENIWiring.remove(table: gone.table, family: .ipv4, on: socket), what: "network setup of a detaching ENI")
      enis[eni] = nil
    }
    kept[eni] = nil
    try marks?.apply(wantedMarks)
  }

  /// The pods' scheme before this one is needed by none any more.
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
      // Without the rules by mark it leads nobody anywhere.
      logger.warning("cannot remove the source map", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }
}

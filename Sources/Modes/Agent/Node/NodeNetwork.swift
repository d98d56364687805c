// SPDX-License-Identifier: Apache-2.0
//
// The node's kernel state outside of pods: policy rules, the ENIs' links and tables, the source map, SNAT.
//
// `NodeWanted` says what the kernel should hold; `converge(to:_:)` is the one way there, at the start, for growth and for
// shrinking. It keeps the value, and the repair (NodeNetwork+Repair) compares the kernel with it. The order of
// docs/decisions/0004 applies everywhere: reverse path, routes, rule 512, source map, rules 1536.

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Owns the node's network state. All its work blocks, so it has its own thread.
actor NodeNetwork {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  nonisolated let settings: NetworkSettings
  let socket: NetlinkSocket
  let cleanup: HostCleanup
  let removals = PendingRemovals()
  let logger: Logger
  /// Nil in the per-pod scheme.
  private(set) var marks: ENIMarkTable?
  private var openNftables: NftablesSocket?
  /// MACs already logged as shared by several links.
  private var told: Set<MACAddress> = []
  /// The newest value that `converge` was called with.
  private(set) var wanted: NodeWanted
  /// ENIs that were set up, verified, and not removed since.
  private(set) var setUp: [ENIID: SetUp] = [:]
  /// Sources that the kernel routes for running pods although the wanted state has them on no ENI.
  var kept: [ENIID: ENIMarks.ENI] = [:]
  /// Pods' host veths as first seen.
  var veths: PodVeths
  /// State of earlier settings that is still in use.
  var earlier = EarlierSettings()
  private var otherSchemeStands = true
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
    settings: NetworkSettings, logger: Logger, observe: @escaping @Sendable (FirewallReport) -> Void = { _ in }
  ) throws {
    executor = try ThreadExecutor(name: "kernel")
    socket = try NetlinkSocket()
    cleanup = try HostCleanup(logger: logger)
    hostRules = try HostRulesKeeper(settings: settings, logger: logger, observe: observe)
    self.settings = settings
    self.logger = logger
    wanted = NodeWanted(settings: settings)
    veths = PodVeths(prefix: settings.vethPrefix)
  }

  /// What `converge` has done for an ENI.
  struct SetUp: Sendable {
    let link: UInt32
    let mac: MACAddress
    let table: RouteTable
  }

  /// How pods are routed, and what remains of earlier runs.
  var scheme: NodeScheme { NodeScheme(usesMap: marks != nil, otherStands: otherSchemeStands, earlier: earlier) }

  /// The table for pods' host routes; nil with the contract's per-pod rules.
  var podRouteTable: RouteTable? { marks == nil ? nil : .pods }

  /// How packets are routed to pods.
  var routing: HostRouting { scheme.routing }

  // MARK: start

  /// The first call: sets up the rules that exist once per node, and the source map. The ENIs themselves follow one by
  /// one (`converge`).
  ///
  /// - Parameters:
  ///   - primary: the MAC of the primary ENI's link.
  ///   - listed: from the attached ENIs, so that the map is complete from its first transaction on.
  /// - Returns: addresses and prefixes of running pods that the kernel routes by a different ENI than the listing
  ///   shows. They stay unchanged until EC2 has been asked again.
  /// - Throws: also if the primary ENI's name matches the veth prefix.
  func begin(primary: MACAddress, _ listed: NodeWanted) throws -> Set<IPPrefix> {
    try checkVethPrefix(primary)
    try checkForwarding()
    try findEarlierSettings()
    wanted = listed
    openMarks()
    let contested = try keepWhatRuns()
    try applyNodeRules()
    try removeDeadENIs()
    try writeMarks()
    return contested
  }

  func applyNodeRules() throws {
    for family in settings.families {
      report(try wanted.rules(family, scheme).apply(on: socket), what: "policy rules")
    }
  }

  /// The kernel's map is evidence for running pods: addresses that the listing lacks, or shows elsewhere, stay
  /// unchanged.
  private func keepWhatRuns() throws -> Set<IPPrefix> {
    guard let marks else { return [] }
    var contested: Set<IPPrefix> = []
    for family in settings.families {
      guard let present = try marks.led(family) else { continue }
      let ledByMap = try Route.list(table: .pods, family: family, on: socket).filter(\.destination.isSingle)
      let evidence = wanted.marks(scheme).evidence(
        in: present, pods: try runningPods(), ledByMap: Set(ledByMap.map(\.destination.address)),
        unmarked: wanted.unmarked)
      kept.merge(evidence.kept) { first, _ in first }
      contested.formUnion(evidence.contested)
    }
    wanted = wanted.without(contested)
    if !kept.isEmpty {
      logger.warning(
        "ENI listing lacks addresses that running pods use; keeping their routes and asking EC2 again",
        metadata: ["kept": "\(kept.map { "\($0.key): \($0.value.sources.sorted())" }.sorted())"])
    }
    return contested
  }

  /// Leftovers of ENIs whose links are gone.
  private func removeDeadENIs() throws {
    var tables = Set(wanted.enis.values.map(\.table))
    // Nothing is removed for an ENI that running pods use, even if the listing lacks it.
    let marks = Set(kept.values.map(\.mark))
    for family in settings.families {
      for rule in try PolicyRule.list(family, on: socket) where rule.mark.map({ marks.contains($0.value) }) ?? false {
        tables.insert(rule.table)
      }
      report(
        try ENIWiring.removeDead(besides: tables, family: family, on: socket), what: "policy rules of removed ENIs")
    }
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
      try applyNodeRules()
    }
  }

  /// Lowers the primary interface's MTU to the configured value; never raises it.
  ///
  /// Peers of older connections keep sending segments of the old size, which the interface drops: so this runs before
  /// any long-lived connection.
  func lowerMTU(of primary: MACAddress) throws {
    guard let link = try Link.list(on: socket).first(where: { $0.mac == primary }), link.mtu > settings.mtu
    else { return }
    let metadata: Logger.Metadata = [
      "interface": "\(link.name)", "from": "\(link.mtu)", "to": "\(settings.mtu)",
    ]
    do {
      try socket.perform(.setMTU(settings.mtu, of: link.index))
      logger.notice("MTU of the primary interface lowered", metadata: metadata)
    } catch {
      // The ENI's network setup retries and reports it.
      logger.warning(
        "cannot lower the MTU of the primary interface; will retry",
        metadata: metadata.merging(["error": "\(CauseChain.text(error))"]) { old, _ in old })
    }
  }

  /// Opens nftables for the constant scheme; without it the contract's per-pod rules are used, which is logged.
  func openMarks() {
    guard settings.wantsConstantRules, marks == nil else { return }
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

  // MARK: converging

  /// The part of the kernel's state that `converge` brings to the wanted state, beside the source map.
  enum Scope: Sendable, Hashable {
    /// The source map alone: EC2 has assigned addresses to an ENI, or unassigned some at the pool's request.
    case sources(arriving: [IPPrefix] = [], leaving: [IPPrefix] = [], ENIID)
    /// An ENI's link, table and rules, which are verified.
    case eni(ENIID)
    /// An ENI that the wanted state no longer has, with its table: before it is detached.
    case removal(ENIID, RouteTable)
  }

  /// Brings the kernel to the wanted state, within the scope: additions before deletions. Sources that a running pod uses
  /// stay, unless the pool itself gave them back. If a newer value has arrived meanwhile, that one counts.
  ///
  /// - Throws: `NodeNetworkError`, such as `noLink` if an ENI's link does not appear in time; errors of netlink and
  ///   nftables. Another call continues from there.
  nonisolated func converge(to wanted: NodeWanted, _ scope: Scope) async throws {
    if case .eni(let id) = scope, let mac = wanted.enis[id]?.mac, try await findLink(mac) == nil {
      let deadline = ContinuousClock.now.advanced(by: NodeNetwork.linkDeadline)
      guard try await LinkWait().wait(for: mac, until: deadline) != nil else { throw NodeNetworkError.noLink(id, mac) }
    }
    try await convergePresent(to: wanted, scope)
  }

  private func convergePresent(to new: NodeWanted, _ scope: Scope) throws {
    var leaving: Set<IPPrefix> = []
    switch scope {
    case .sources(let arriving, let unassigned, let eni):
      try refuse(arriving, for: eni)
      leaving = Set(unassigned)
    case .removal(let eni, _): leaving = wantedMarks.enis[eni]?.sources ?? []
    case .eni: break
    }
    if new.generation >= wanted.generation { wanted = new }
    try removeDeparted(scope)
    // The map before the rules: marks without a rule have no effect.
    try convergeMarks(givenBack: leaving)
    if case .eni(let id) = scope { try wire(id) }
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

  private func wire(_ id: ENIID) throws {
    guard let eni = wanted.enis[id] else { throw NodeNetworkError.unknown(id) }
    guard eni.isPrimary || wanted.mark(of: eni) != nil else {
      throw NodeNetworkError.noMark(id, device: eni.device, card: eni.card, mask: settings.eniMarkMask)
    }
    guard let wiring = wanted.wiring(of: eni, scheme) else {
      throw eni.mac == nil ? NodeNetworkError.unknown(id) : .noAddress(id)
    }
    guard let link = try findLink(wiring.mac) else { throw NodeNetworkError.noLink(id, wiring.mac) }
    report(try wiring.apply(to: link, on: socket), what: "network setup of an ENI")
    guard let now = try Link.find(index: link.index, on: socket) else { throw NodeNetworkError.noLink(id, wiring.mac) }
    let left = try wiring.verify(now, on: socket)
    guard left.isEmpty else { throw NodeNetworkError.notAsWanted(id, left) }
    guard try wiring.reachesRouter(by: now.index, on: socket) else { throw NodeNetworkError.noLinkLocal(id, now.name) }
    setUp[id] = SetUp(link: link.index, mac: wiring.mac, table: eni.table)
    wiredBell.ring()
  }

  /// Removes the tables and rules of ENIs that are no longer wanted.
  private func removeDeparted(_ scope: Scope) throws {
    if case .removal(let id, let table) = scope, wanted.enis[id] == nil { try removeSetup(of: id, table) }
    // Somebody else detached these.
    for (id, gone) in setUp where wanted.enis[id] == nil {
      do {
        try removeSetup(of: id, gone.table)
      } catch {
        // Without marks and pods the rules are idle; the next start removes them.
        logger.warning(
          "cannot remove the network setup of a detached ENI",
          metadata: ["eni": "\(id)", "error": "\(CauseChain.text(error))"])
      }
    }
  }

  private func removeSetup(of id: ENIID, _ table: RouteTable) throws {
    // From here on the setup is unwanted, whatever follows: it must not be repaired.
    setUp[id] = nil
    // Another ENI may be at its device index by now.
    guard !wanted.enis.values.contains(where: { $0.table == table }) else { return }
    for family in settings.families {
      report(try ENIWiring.remove(table: table, family: family, on: socket), what: "network setup of a detaching ENI")
    }
  }

  /// No pod needs the other routing scheme any more.
  func dropOtherScheme() throws {
    otherSchemeStands = false
    guard marks == nil else { return }
    try applyNodeRules()
    for (id, setUp) in setUp {
      guard let eni = wanted.enis[id], let wiring = wanted.wiring(of: eni, scheme),
        let link = try Link.find(index: setUp.link, on: socket)
      else { continue }
      report(try wiring.apply(to: link, on: socket), what: "network setup of an ENI")
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

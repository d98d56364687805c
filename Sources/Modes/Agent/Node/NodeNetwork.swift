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
  }

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  let configuration: Configuration
  let socket: NetlinkSocket
  let cleanup: HostCleanup
  let logger: Logger
  /// Nil in the per-pod scheme.
  private var marks: ENIMarkTable?
  private var desiredMarks: ENIMarks
  private var openNftables: NftablesSocket?
  private var tables: [ENIID: RouteTable] = [:]
  /// What marks connections: `iptables` or `nftables`; nil where nothing does.
  var connmarkBackend: String?

  /// How long EC2 and the kernel may take to show a link after the attachment.
  private static let linkDeadline = Duration.seconds(30)

  /// To be made in the node's network namespace.
  init(configuration: Configuration, logger: Logger) throws {
    executor = try ThreadExecutor(name: "kernel")
    socket = try NetlinkSocket()
    cleanup = try HostCleanup(logger: logger)
    self.configuration = configuration
    self.logger = logger
    desiredMarks = ENIMarks(mask: configuration.eniMarkMask, vethPrefix: configuration.vethPrefix)
  }

  /// The table for pods' host routes; nil where the contract's per-pod rules hold.
  var podRouteTable: RouteTable? { marks == nil ? nil : .pods }

  // MARK: start

  /// Puts in place what does not depend on ENIs: rules 512 and 1024, the (empty) source map, SNAT.
  ///
  /// - Parameter enis: what is attached, so that the map is whole from its first transaction on.
  func setUp(primary: MACAddress, address: IPAddress, vpcCIDRs: [IPPrefix], enis: [ENIObservation]) throws {
    for eni in enis where eni.isManaged && !eni.isPrimary { desiredMarks.enis[eni.id] = try marked(eni) }
    openMarks()
    let rules = NodeRules(
      family: .ipv4, leadsToPodsTable: marks != nil,
      primaryMark: configuration.usesPrimaryMark ? configuration.primaryMark : nil)
    report(try rules.apply(on: socket), what: "policy rules")
    if let marks {
      let changed = try marks.apply(desiredMarks)
      if !changed.isEmpty { logger.notice("source map written", metadata: ["changes": "\(changed.count)"]) }
    }
    try applyHostRules(primary: primary, address: address, vpcCIDRs: vpcCIDRs)
  }

  /// Opens nftables for the constant scheme; without it the contract's per-pod rules are used, and that is said.
  private func openMarks() {
    guard configuration.wantsConstantRules else { return }
    do {
      marks = ENIMarkTable(socket: try nftables())
    } catch {
      logger.warning(
        "no nftables, using one pair of policy rules for each pod", metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  /// The one socket for all tables of ours, opened when it is first needed.
  func nftables() throws(NftablesError) -> NftablesSocket {
    if let openNftables { return openNftables }
    let socket = try NftablesSocket()
    openNftables = socket
    return socket
  }

  private func report(_ changes: [NodeDifference], what: StaticString) {
    guard !changes.isEmpty else { return }
    logger.notice("\(what) changed", metadata: ["changes": "\(changes.map(\.description))"])
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
    try Link.find(mac: mac, on: socket).first { $0.kind != "vlan" }
  }

  private func wirePresent(_ eni: ENIObservation, mac: MACAddress, subnet: IPPrefix) throws {
    guard let link = try findLink(mac) else { throw NodeNetworkError.noLink(eni.id, mac) }
    guard let address = eni.primaryAddress else { throw NodeNetworkError.noAddress(eni.id) }
    let table = eni.routeTable ?? .eni(device: eni.device, card: eni.card)
    var mark: PacketMark?
    if let marks, !eni.isPrimary {
      // The map before the rule: marks without a rule lead to main, as if there were none.
      desiredMarks.enis[eni.id] = try marked(eni)
      try marks.apply(desiredMarks)
      mark = desiredMarks.enis[eni.id].map { PacketMark(value: $0.mark, mask: configuration.eniMarkMask) }
    }
    let wiring = ENIWiring(
      mac: mac, address: address, subnet: subnet, mtu: configuration.mtu, table: table, mark: mark)
    report(try wiring.apply(to: link, on: socket), what: "wiring of an ENI")
    tables[eni.id] = table
    guard let now = try Link.find(index: link.index, on: socket) else {
      throw NodeNetworkError.noLink(eni.id, mac)
    }
    let left = try wiring.verify(now, on: socket)
    guard left.isEmpty else { throw NodeNetworkError.notAsWanted(eni.id, left) }
  }

  /// Takes down what `wire` put in place, before the ENI is detached.
  func unwire(_ eni: ENIID) throws {
    if let table = tables.removeValue(forKey: eni) {
      report(try ENIWiring.remove(table: table, family: .ipv4, on: socket), what: "wiring of a leaving ENI")
    }
    guard desiredMarks.enis.removeValue(forKey: eni) != nil else { return }
    try marks?.apply(desiredMarks)
  }

  /// Leads packets from more addresses by this ENI. Nothing to do for the primary and in the per-pod scheme.
  func addSources(_ sources: [IPPrefix], of eni: ENIID) throws {
    guard desiredMarks.enis[eni] != nil, let marks else { return }
    desiredMarks.enis[eni]?.sources.formUnion(sources)
    try marks.add(sources, to: eni)
  }

  func removeSources(_ sources: [IPPrefix], of eni: ENIID) throws {
    guard desiredMarks.enis[eni] != nil, let marks else { return }
    desiredMarks.enis[eni]?.sources.subtract(sources)
    try marks.delete(sources, from: eni)
  }

  /// The ENI's mark: its device index in the lowest bits of the mask, so that it is the same after a restart.
  private func marked(_ eni: ENIObservation) throws -> ENIMarks.ENI {
    let mask = configuration.eniMarkMask
    let value = UInt32(eni.device) << UInt32(mask.trailingZeroBitCount)
    guard eni.card == 0, value != 0, value & ~mask == 0 else {
      throw NodeNetworkError.noMark(eni.id, device: eni.device, card: eni.card, mask: mask)
    }
    return ENIMarks.ENI(mark: value, sources: Set(eni.cidrs))
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCLinux
internal import VPCModel

/// The desired node network from IMDS and the settings, compared with the kernel with or without an agent, by the same
/// values that the agent uses.
struct WantedNetwork: Sendable {
  let settings: Settings
  let interfaces: [IMDSNetworkInterface]

  /// Differences in words; blocks.
  ///
  /// - Parameter status: shows which ENIs the agent manages; without it, ENIs with pod addresses count.
  func differences(_ status: AgentStatus?) -> Fact<[String]> {
    do {
      let socket = try NetlinkSocket()
      let isConstant = settings.podRules == .constant && status?.kernel.scheme != "per-pod"
      let usesMark = settings.supportsNodePorts || !settings.usesExternalSNAT
      let earlier = KernelFacts.read().value?.earlier(than: settings) ?? EarlierSettings()
      var rules = NodeRules(
        family: .ipv4, leadsToPodsTable: isConstant, primaryMark: usesMark ? settings.connmark : nil,
        externalServices: settings.externalServiceCIDRs)
      rules.earlierMarks = earlier.marks
      var found = try rules.verify(on: socket).map { "\($0)" }
      let managed = managed(status)
      for eni in managed {
        guard let wiring = wiring(eni, status, isConstant) else { continue }
        guard let link = try wiring.findLink(on: socket) else {
          found.append("no link with the MAC \(eni.mac) of \(eni.id)")
          continue
        }
        // Facts that only the agent knows are not checked: the MTU, if the agent's settings are not visible.
        found += try wiring.verify(link, on: socket).map { "\(link.name): \($0)" }
      }
      if isConstant { found += try sourceMap(managed, status, earlier) }
      found += hostRules(socket, status, earlier)
      return .known(found)
    } catch {
      return .unknown(CauseChain.text(error))
    }
  }

  private func managed(_ status: AgentStatus?) -> [IMDSNetworkInterface] {
    guard let status else {
      // ENIs on other cards or in other VPCs are unmanaged.
      let vpc = interfaces.first(where: isPrimary)?.vpcID
      return interfaces.filter { eni in
        let carriesPods = eni.ipv4Addresses.count > 1 || !eni.ipv4Prefixes.isEmpty
        return isPrimary(eni) || carriesPods && eni.networkCard == 0 && eni.vpcID == vpc
      }
    }
    // An ENI that is not open is just being set up.
    let ours = Set(status.enis.filter { $0.isManaged && $0.isOpen }.map(\.id))
    return interfaces.filter { ours.contains($0.id.text) }
  }

  private func isPrimary(_ eni: IMDSNetworkInterface) -> Bool { eni.deviceNumber == 0 && eni.networkCard == 0 }

  private func mark(_ eni: IMDSNetworkInterface) -> UInt32 {
    UInt32(eni.deviceNumber) << UInt32(settings.eniMarkMask.trailingZeroBitCount)
  }

  private func wiring(_ eni: IMDSNetworkInterface, _ status: AgentStatus?, _ isConstant: Bool) -> ENIWiring? {
    guard let address = eni.ipv4Addresses.first, let subnet = eni.subnetIPv4CIDR else { return nil }
    let told = status?.enis.first { $0.id == eni.id.text }.map { RouteTable(UInt32(clamping: $0.table)) }
    let table = told ?? .eni(device: eni.deviceNumber, card: eni.networkCard)
    let mark = isConstant && !isPrimary(eni) ? PacketMark(value: mark(eni), mask: settings.eniMarkMask) : nil
    return ENIWiring(
      mac: eni.mac, address: address, subnet: subnet, mtu: UInt32(settings.eniMTU), table: table, mark: mark)
  }

  private func sourceMap(
    _ managed: [IMDSNetworkInterface], _ status: AgentStatus?, _ earlier: EarlierSettings
  ) throws -> [String] {
    var marks = ENIMarks(mask: settings.eniMarkMask, vethPrefix: settings.vethPrefix)
    marks.earlierVethPrefixes = earlier.vethPrefixes
    for eni in managed where !isPrimary(eni) {
      marks.enis[eni.id] = ENIMarks.ENI(mark: mark(eni), address: eni.ipv4Addresses.first)
    }
    var pods: [IPAddress: ENIID] = [:]
    for pod in status?.pods ?? [] {
      if let address = IPAddress(pod.address), let eni = ENIID(pod.eni), marks.enis[eni] != nil { pods[address] = eni }
    }
    if status == nil {
      for eni in managed where !isPrimary(eni) {
        for address in eni.ipv4Addresses.dropFirst() { pods[address] = eni.id }
      }
    }
    return try ENIMarkTable.faults(wanted: marks, pods: pods, on: NftablesSocket())
  }

  /// SNAT and connection marks in the backend that kubelet uses.
  private func hostRules(
    _ socket: NetlinkSocket, _ status: AgentStatus?, _ earlier: EarlierSettings
  ) -> [String] {
    guard let primary = interfaces.first(where: isPrimary), let address = primary.ipv4Addresses.first,
      let link = try? Link.find(mac: primary.mac, on: socket).first(where: { $0.kind != "vlan" })
    else { return [] }
    var evidence = IptablesBackend.Evidence()
    evidence.nft = try? Iptables(backend: .nft).save()
    if status?.kernel.iptables == FirewallBackend.legacy.rawValue {
      evidence.legacy = try? Iptables(backend: .legacy).save()
    }
    let current = IptablesBackend.allCases.first { FirewallBackend($0).rawValue == status?.kernel.iptables }
    // Without a usable iptables the rules are in an nftables table, which only the agent can check.
    guard let backend = current ?? IptablesBackend.choose(evidence), let save = evidence[backend] else { return [] }
    var rules = HostRules(
      primaryAddress: address, primaryInterface: link.name, vethPrefix: settings.vethPrefix,
      vpcCIDRs: primary.vpcIPv4CIDRs, excludedCIDRs: settings.excludedSNATCIDRs,
      externalSNAT: settings.usesExternalSNAT, nodePortSupport: settings.supportsNodePorts,
      connmark: settings.connmark, connmarkBackend: backend == .legacy ? .iptables : .nftables)
    rules.earlier = earlier
    var found: [String] = []
    let randomizations: [HostRules.Randomization] =
      switch settings.snatPorts {
      // An old iptables has the second alone.
      case .prng: [.fully, .hashed]
      case .hashrandom: [.hashed]
      case .none: [.none]
      }
    let isWanted = randomizations.contains { randomization in
      rules.randomization = randomization
      return rules.nat.restoreText(present: save.table("nat")) == nil
    }
    if !isWanted {
      found.append("SNAT rules (nat table of iptables-\(backend.rawValue)) differ from the desired state")
    }
    if rules.mangle.restoreText(present: save.table("mangle")) != nil {
      found.append("NodePort marks (mangle table of iptables-\(backend.rawValue)) differ from the desired state")
    }
    if let changes = try? NftablesSocket().changes(to: [(HostRules.connmarkTable, rules.connmarkTable)]),
      !changes.steps.isEmpty
    {
      found.append("nftables \(HostRules.connmarkTable) differs from the desired state")
    }
    return found
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCLinux
internal import VPCModel

/// The desired node network from IMDS and the settings, compared with the kernel with or without an agent, by the same
/// values that the agent uses.
struct WantedNetwork: Sendable {
  let settings: Settings
  let interfaces: [IMDSNetworkInterface]

  private var family: AddressFamily { settings.family }

  /// Differences in words; blocks.
  ///
  /// - Parameter status: shows which ENIs the agent manages; without it, ENIs with pod addresses count.
  func differences(_ status: AgentStatus?) -> Fact<[String]> {
    do {
      let socket = try NetlinkSocket()
      let scheme = NodeScheme(
        usesMap: settings.podRules == .constant && status?.kernel.scheme != "per-pod",
        earlier: KernelFacts.read(family).value?.earlier(than: settings) ?? EarlierSettings())
      let managed = managed(status)
      let wanted = wanted(managed, status)
      var found = try wanted.rules(family, scheme).verify(on: socket).map { "\($0)" }
      for (id, eni) in wanted.enis.sorted(by: { $0.key < $1.key }) {
        guard let wiring = wanted.wiring(of: eni, scheme) else { continue }
        guard let link = try wiring.findLink(on: socket) else {
          found.append("no link with the MAC \(wiring.mac) of \(id)")
          continue
        }
        // Facts that only the agent knows are not checked: the MTU, if the agent's settings are not visible.
        found += try wiring.verify(link, on: socket).map { "\(link.name): \($0)" }
      }
      if scheme.usesMap {
        let marks = wanted.marks(scheme)
        found += try ENIMarkTable.faults(wanted: marks, pods: pods(managed, status, marks), on: NftablesSocket())
      }
      found += hostRules(socket, status, scheme.earlier)
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
        let carriesPods = !eni.podCIDRs(family).isEmpty
        return isPrimary(eni) || carriesPods && eni.networkCard == 0 && eni.vpcID == vpc
      }
    }
    // An ENI that is not open is just being set up.
    let ours = Set(status.enis.filter { $0.isManaged && $0.isOpen }.map(\.id))
    return interfaces.filter { ours.contains($0.id.text) }
  }

  private func isPrimary(_ eni: IMDSNetworkInterface) -> Bool { eni.deviceNumber == 0 && eni.networkCard == 0 }

  /// Without the ENIs' addresses for pods: only the agent knows which of them it uses.
  private func wanted(_ managed: [IMDSNetworkInterface], _ status: AgentStatus?) -> NodeWanted {
    var wanted = NodeWanted(settings: NetworkSettings(settings))
    for eni in managed {
      guard let subnet = SubnetID(eni.subnetID) else { continue }
      let told = status?.enis.first { $0.id == eni.id.text }.map { RouteTable(UInt32(clamping: $0.table)) }
      let seen = ENIObservation(
        id: eni.id, device: eni.deviceNumber, card: eni.networkCard, subnet: subnet, routeTable: told)
      wanted.enis[eni.id] = NodeWanted.ENI(
        seen, address: eni.addresses(family).first, mac: eni.mac, subnet: eni.subnetCIDR(family))
    }
    return wanted
  }

  /// The ENI of each pod's address, without the primary ENI.
  private func pods(
    _ managed: [IMDSNetworkInterface], _ status: AgentStatus?, _ marks: ENIMarks
  ) -> [IPAddress: ENIID] {
    var pods: [IPAddress: ENIID] = [:]
    for pod in status?.pods ?? [] {
      if let address = IPAddress(pod.address), let eni = ENIID(pod.eni), marks.enis[eni] != nil { pods[address] = eni }
    }
    guard status == nil else { return pods }
    for eni in managed where marks.enis[eni.id] != nil {
      for cidr in eni.podCIDRs(family) where cidr.isSingle { pods[cidr.address] = eni.id }
    }
    return pods
  }

  /// SNAT and connection marks in the backend that kubelet uses.
  private func hostRules(
    _ socket: NetlinkSocket, _ status: AgentStatus?, _ earlier: EarlierSettings
  ) -> [String] {
    guard let primary = interfaces.first(where: isPrimary), let address = primary.addresses(family).first,
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
    var rules = NetworkSettings(settings).hostRules(
      address: address, interface: link.name, vpcCIDRs: primary.vpcCIDRs(family), earlier: earlier)
    rules.connmarkBackend = backend == .legacy ? .iptables : .nftables
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
    if rules.filter.restoreText(present: save.table("filter")) != nil {
      found.append(
        "rule for node-local pod addresses (filter table of iptables-\(backend.rawValue)) is missing or left over")
    }
    if let changes = try? NftablesSocket().changes(to: [(HostRules.connmarkTable, rules.connmarkTable)]),
      !changes.steps.isEmpty
    {
      found.append("nftables \(HostRules.connmarkTable) differs from the desired state")
    }
    return found
  }
}

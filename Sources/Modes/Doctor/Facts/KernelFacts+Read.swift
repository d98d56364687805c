// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel
internal import VPCSystem

extension KernelFacts {
  /// - Parameter family: of pods' addresses.
  static func read(_ family: AddressFamily) -> Fact<KernelFacts> {
    do {
      let socket = try NetlinkSocket()
      var facts = KernelFacts()
      facts.rules = try PolicyRule.list(family, on: socket)
      facts.links = try Link.list(on: socket)
      facts.podRoutes = try [RouteTable.pods, .main].flatMap { table in
        try Route.list(table: table, family: family, on: socket).filter { $0.destination.isSingle && $0.gateway == nil }
      }
      facts.forwarding = try KernelSettingReading.forwarding(family, on: socket)
      facts.reversePath["all"] = try Sysctl("net", "ipv4", "conf", "all", "rp_filter").read()
      for link in facts.links where link.kind != "veth" || HostVethName.split(link.name) == nil {
        guard !link.isLoopback, let name = InterfaceName(link.name), isENI(link, facts.rules) else { continue }
        facts.reversePath[link.name] = try Sysctl.interface(name, .ipv4, "rp_filter").read()
      }
      return .known(facts)
    } catch {
      return .unknown(CauseChain.text(error))
    }
  }

  /// Bridges and tunnels of other programs do not matter.
  private static func isENI(_ link: Link, _ rules: [PolicyRule]) -> Bool {
    !["bridge", "vlan", "vxlan", "ipip", "dummy", "tun", "wireguard"].contains(link.kind ?? "")
      && link.peerNamespaceID != nil || link.kind == nil
  }
}

extension FirewallFacts {
  static func read() -> Fact<FirewallFacts> {
    var facts = FirewallFacts()
    var seen = 0
    for backend in IptablesBackend.allCases {
      // iptables-legacy would load the tables that it lists: without loaded tables there is nothing to read.
      if backend == .legacy, !hasLegacyTables { continue }
      guard let save = try? Iptables(backend: backend).save() else { continue }  // not of this kind here
      seen += 1
      if save.hasHint { facts.kubelet.append(backend.rawValue) }
      if save.ownedObjects > 0 { facts.ours.append(backend.rawValue) }
      if backend == .legacy, save.dropsForward { facts.droppingForward.append(ForwardPolicy.legacy.chain) }
    }
    do {
      facts.droppingForward += try NftablesSocket().droppingForwardChains().map(\.chain)
    } catch {
      guard seen > 0 else { return .unknown("no iptables program, and \(CauseChain.text(error))") }
    }
    return .known(facts)
  }

  private static var hasLegacyTables: Bool {
    // No file: the module is not loaded.
    !((try? BoundedFile.read("/proc/thread-self/net/ip_tables_names", limit: 4096)) ?? []).isEmpty
  }
}

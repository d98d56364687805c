// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCLinux
import VPCModel

/// One call of `egress-cni`.
///
/// The order of its steps lets a DEL find everything after a kill at any moment: ADD reserves the address first, and DEL
/// releases it last. The reservation names the container, its address names the chain's family and the host route.
struct EgressCall {
  let request: CNIRequest
  let configuration: EgressConfiguration
  let kernel: HostKernel
  let firewall: EgressFirewall
  let log: Logger

  /// - Returns: the JSON for standard output; nil for none.
  func run() throws(CNIError) -> JSONValue? {
    switch request.command {
    case .add: return try add()
    case .delete: try delete()
    // The agent keeps no state of this plugin; amazon-vpc-cni-k8s does nothing here either.
    case .check, .status, .collectGarbage: break
    case .version: return CNIVersion.answer
    }
    return nil
  }

  /// The contract's names of what a call works on.
  private func rules(_ family: AddressFamily) -> EgressRules {
    EgressRules(family: family, network: configuration.network.name, containerID: request.containerID)
  }

  // MARK: ADD

  /// Gives the pod its second interface. A failure leaves nothing behind.
  private func add() throws(CNIError) -> JSONValue {
    try configuration.network.check()
    guard let interface = request.interface else {
      throw CNIError(.invalidEnvironment, "required env variables [CNI_IFNAME] missing")
    }
    guard let previous = configuration.network.previousResultJSON else {
      throw CNIError(
        .invalidConfiguration,
        "must be called as a chained plugin: prevResult is missing; egress-cni follows aws-cni in a conflist")
    }
    _ = try configuration.mtu()
    guard configuration.isEnabled else { return answer(CNIResult(), previous) }
    let plan = try configuration.plan()
    guard rules(plan.nodeAddress.family).comment.utf8.count <= EgressRules.longestComment else {
      throw CNIError(
        .invalidEnvironment, "the network's name and CNI_CONTAINERID are too long together for a comment of iptables")
    }
    let pod = try kernel.openPod(namespace: request.netns, allowsOwn: request.allowsOwnNamespace)
    let owner = ReservationStore.Owner(containerID: request.containerID, interface: interface.text)
    let reservation = try reserve(owner, plan)
    do throws(CNIError) {
      let hold = try hold(reservation.address, plan.folder)
      return answer(try connect(pod, interface, reservation, plan, hold), previous)
    } catch {
      do {
        _ = try withStore(plan.folder, creates: false) { (store) throws(ReservationError) in
          try store.release(owner, known: [reservation.address])
        }
      } catch {
        log.warning(
          "cannot release the address; the kubelet's DEL will",
          metadata: [LogKey.address: "\(reservation.address)", LogKey.cause: "\(CauseChain.text(error))"])
      }
      throw error
    }
  }

  private func reserve(
    _ owner: ReservationStore.Owner, _ plan: EgressConfiguration.Plan
  ) throws(CNIError) -> (address: IPAddress, range: AddressRange) {
    do {
      let reserved = try withStore(plan.folder, creates: true) { (store) throws(ReservationError) in
        try store.reserve(for: owner, from: plan.ranges)
      }
      guard let reserved else { throw CNIError(.failed, "cannot open \(plan.folder)") }
      return reserved
    } catch let error as CNIError {
      throw error
    } catch {
      throw CNIError(.failed, "add cmd: failed to reserve an address", cause: error)
    }
  }

  private func hold(_ address: IPAddress, _ folder: String) throws(CNIError) -> ReservationHold {
    do throws(ReservationError) {
      return try ReservationHold(address, in: folder)
    } catch {
      throw CNIError(.failed, "add cmd: failed to reserve an address", cause: error)
    }
  }

  private func connect(
    _ pod: HostPod, _ interface: InterfaceName, _ reservation: (address: IPAddress, range: AddressRange),
    _ plan: EgressConfiguration.Plan, _ hold: borrowing ReservationHold
  ) throws(CNIError) -> CNIResult {
    let network = EgressNetwork(
      address: reservation.address, prefixLength: reservation.range.subnet.length,
      gateway: reservation.range.gateway, destinations: plan.destinations, mtu: plan.mtu)
    let made: EgressLink
    do {
      made = try network.add(
        pod: pod.pod, host: pod.host, node: pod.node, namespace: pod.namespace, primary: interface)
    } catch {
      throw CNIError(.failed, "add cmd: failed to set up egress interface", cause: error)
    }
    do {
      try firewall.add(
        rules(network.address.family), of: network.address, nodeAddress: plan.nodeAddress,
        randomization: plan.randomization, hold: hold)
    } catch {
      network.undo(made, on: pod.host)
      throw CNIError(.failed, "add cmd: failed to set up SNAT", cause: error)
    }
    var result = CNIResult()
    result.interfaces = [
      .init(name: made.hostName.text, mac: "\(made.hostMAC)"),
      .init(name: made.podName.text, mac: "\(made.podMAC)", sandbox: request.netns),
    ]
    return result
  }

  /// The previous result and this plugin's interfaces. Kubernetes must see one address of the pod, so this one is not
  /// in it. Results below 0.3.0 have no interfaces.
  private func answer(_ own: CNIResult, _ previous: JSONValue) -> JSONValue {
    let version = configuration.network.version
    guard version >= .v030 else {
      guard var object = previous.object else { return previous }
      object["cniVersion"] = .string(version.rawValue)
      return .object(object)
    }
    return ChainResult.append(own.json(version: version), to: previous, version: version)
  }

  // MARK: DEL

  /// Removes everything of the attachment, also after a change of `enabled` or `nodeIP`, and without a namespace. Succeeds
  /// if there is nothing, and starts a program only if the plugin is enabled or the attachment has a reservation.
  ///
  /// - Throws: code 11 for what the runtime should try again, 999 if a reservation cannot be read or removed.
  private func delete() throws(CNIError) {
    for problem in configuration.network.problems {
      log.warning("invalid network configuration; DEL continues without it", metadata: [LogKey.cause: "\(problem)"])
    }
    guard let interface = request.interface else { return }
    let owner = ReservationStore.Owner(containerID: request.containerID, interface: interface.text)
    let folder: String
    do {
      folder = try configuration.folder()
    } catch {
      return log.warning("no address is released", metadata: [LogKey.cause: "\(error.message)"])
    }
    let addresses = try reservations { () throws(ReservationError) in
      let addresses =
        try withStore(folder, creates: false) { (store) throws(ReservationError) in try store.addresses(of: owner) }
      for address in addresses ?? [] { try ReservationHold.wait(for: address, in: folder) }
      return addresses
    }
    var families = Set(addresses.map(\.family))
    if configuration.isEnabled, let family = configuration.family { families.insert(family) }
    guard !families.isEmpty else { return }
    removeInterface(families, addresses)
    for family in families.sorted(by: { $0.rawValue < $1.rawValue }) {
      try removeRules(family, addresses.first { $0.family == family })
    }
    if !addresses.isEmpty {
      _ = try reservations { () throws(ReservationError) in
        try withStore(folder, creates: false) { (store) throws(ReservationError) in
          try store.release(owner, known: addresses)
        }
      }
    }
  }

  /// A namespace that is gone contains nothing; its veth and route have gone with it.
  private func removeInterface(_ families: Set<AddressFamily>, _ addresses: [IPAddress]) {
    do {
      let host = try kernel.host()
      for address in addresses { try EgressNetwork.removeRoute(to: address, on: host) }
    } catch {
      log.warning(
        "cannot remove the route to the pod; it goes with the pod's network namespace",
        metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    }
    // Without a result ADD has failed or was killed, and the runtime may use the namespace again.
    guard configuration.network.previousResult == nil, !request.netns.isEmpty else { return }
    do {
      let pod = try kernel.openPod(namespace: request.netns, allowsOwn: request.allowsOwnNamespace)
      for family in families where try EgressNetwork.removePair(family, pod: pod.pod) {
        log.info("removed the egress interface of an incomplete ADD")
      }
    } catch {
      log.debug("cannot check the pod's network namespace", metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    }
  }

  /// What cannot succeed later must not keep the pod from ending.
  private func removeRules(_ family: AddressFamily, _ address: IPAddress?) throws(CNIError) {
    let rules = rules(family)
    do throws(IptablesError) {
      let wasThere = try firewall.remove(rules, of: address)
      if !wasThere { log.debug("no SNAT rules", metadata: [LogKey.chain: "\(rules.chain)"]) }
    } catch {
      guard !error.isTransient else {
        throw CNIError(.tryAgainLater, "del cmd: failed to remove SNAT rules", cause: error)
      }
      log.warning(
        "cannot remove SNAT rules; they stay",
        metadata: [LogKey.chain: "\(rules.chain)", LogKey.cause: "\(CauseChain.text(error))"])
    }
  }

  private func reservations(
    _ body: () throws(ReservationError) -> [IPAddress]?
  ) throws(CNIError) -> [IPAddress] {
    do throws(ReservationError) {
      return try body() ?? []
    } catch {
      throw CNIError(
        error.code == .locked ? .tryAgainLater : .failed, "del cmd: failed to release the address", cause: error)
    }
  }

  /// Runs `body` with the locked folder; nil if there is none. Nobody waits for a lock longer than that.
  private func withStore<Value>(
    _ folder: String, creates: Bool, _ body: (borrowing ReservationStore) throws(ReservationError) -> Value
  ) throws(ReservationError) -> Value? {
    guard let store = try ReservationStore.open(folder, creates: creates) else { return nil }
    return try body(store)
  }
}

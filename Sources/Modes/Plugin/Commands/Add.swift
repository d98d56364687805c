// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCLinux
import VPCModel
import VPCRPC

extension PluginCall {
  /// ADD: gets an address from the agent and wires the pod with it. A failure after the agent's answer releases the
  /// address. The veth pair is created while the agent works: it does not depend on the answer.
  ///
  /// - Throws: code 4 or 7 for bad input, 999 with a sentence of the contract and the cause.
  func add() throws(CNIError) -> CNIResult {
    try configuration.check()
    guard let interface = request.interface else {
      throw CNIError(.invalidEnvironment, "required env variables [CNI_IFNAME] missing")
    }
    // Without names all pods would share one host interface name, and each ADD would remove the previous one.
    for (key, value) in [
      ("K8S_POD_NAME", request.arguments.podName), ("K8S_POD_NAMESPACE", request.arguments.podNamespace),
    ] where value.isEmpty {
      throw CNIError(.invalidEnvironment, "CNI_ARGS: \(key) is missing")
    }
    let pod = try openPod(interface)
    var preparation: Result<PodVeth, PodNetworkError>?
    let reply: AddNetworkReply
    do throws(CNIError) {
      reply = try askForAddress(interface) { preparation = prepare(pod, interface) }
    } catch {
      if case .success(let veth) = preparation { pod.discard(veth) }
      throw error
    }
    let network: PodNetwork
    do {
      network = try connect(pod, interface, by: reply, preparation)
    } catch {
      // The interface appeared after the check: another ADD of the same attachment is running, and the agent gave both
      // the same address, which now belongs to the other. If nobody uses it, the runtime's DEL releases it.
      if case .failure(let failure) = preparation, failure.code == .interfaceExists {
        throw CNIError(.failed, "add command: failed to setup network", cause: failure)
      }
      release()
      throw CNIError(.failed, "add command: failed to setup network", cause: error)
    }
    if !reply.networkPolicyMode.isEmpty { try enforcePolicy(reply, interfaces: network.interfaces.count) }
    return PodResult.make(
      network: network, netns: request.netns,
      deviceNumber: reply.ipallocationMetadata.first?.deviceNumber ?? 0, arguments: request.arguments)
  }

  /// Nil if there is no name for the host end; the wiring reports that later.
  private func prepare(_ pod: any PodPort, _ interface: InterfaceName) -> Result<PodVeth, PodNetworkError>? {
    guard let hostName = hostVethName(0) else { return nil }
    return Result { () throws(PodNetworkError) in
      try pod.prepare(hostName: hostName, podName: interface, mtu: configuration.mtu)
    }
  }

  /// Wires the pod according to the reply. A failure leaves nothing behind.
  private func connect(
    _ pod: any PodPort, _ interface: InterfaceName, by reply: AddNetworkReply,
    _ preparation: Result<PodVeth, PodNetworkError>?
  ) throws -> PodNetwork {
    let prepared = try preparation?.get()
    let network: PodNetwork
    do throws(InvalidReply) {
      network = try wiring(of: reply, interface: interface)
    } catch {
      if let prepared { pod.discard(prepared) }
      throw error
    }
    try pod.add(network, prepared: prepared)
    return network
  }

  private func hostVethName(_ index: Int) -> InterfaceName? {
    HostVethName.name(
      prefix: configuration.vethPrefix, namespace: request.arguments.podNamespace, pod: request.arguments.podName,
      index: index)
  }

  /// Runs before the agent is asked: a wrong path must not take an address, and a second ADD of a running pod must not
  /// get the pod's address again and release it on failure.
  private func openPod(_ interface: InterfaceName) throws(CNIError) -> any PodPort {
    let pod = try kernel.open(namespace: request.netns, allowsOwn: request.allowsOwnNamespace)
    let isTaken: Bool
    do {
      isTaken = try pod.has(interface)
    } catch {
      throw CNIError(.failed, "add command: failed to setup network", cause: error)
    }
    guard !isTaken else {
      throw CNIError(
        .invalidEnvironment, "CNI_IFNAME: \(interface) exists already in CNI_NETNS \(request.netns)")
    }
    return pod
  }

  private func askForAddress(
    _ interface: InterfaceName, meanwhile: () -> Void
  ) throws(CNIError) -> AddNetworkReply {
    var message = AddNetworkRequest()
    message.clientVersion = PluginCall.clientVersion
    message.k8SPodName = request.arguments.podName
    message.k8SPodNamespace = request.arguments.podNamespace
    message.k8SPodInfraContainerID = request.arguments.infraContainerID
    message.netns = request.netns
    message.ifName = interface.text
    message.networkName = configuration.name
    message.containerID = request.containerID
    message.requiresMultiNicattachment = configuration.requiresMultiNICAttachment
    let reply: AddNetworkReply
    do {
      reply = try agent.add(message, timeout: Patience.add, meanwhile: meanwhile)
    } catch {
      throw CNIError(.failed, "add cmd: Error received from AddNetwork gRPC call", cause: error)
    }
    guard reply.success else {
      let cause = reply.failureCause.isEmpty ? "" : ": \(reply.failureCause)"
      throw CNIError(.failed, "add cmd: failed to assign an IP address to container\(cause)")
    }
    return reply
  }

  /// The wiring requested by a reply. The agent's message is validated.
  private func wiring(of reply: AddNetworkReply, interface: InterfaceName) throws(InvalidReply) -> PodNetwork {
    guard reply.podVlanID == 0 else {
      throw InvalidReply("security groups for pods (VLAN \(reply.podVlanID)) are not supported")
    }
    let given = reply.ipallocationMetadata
    guard (1...PodNetwork.maximumInterfaces).contains(given.count) else {
      throw InvalidReply("the agent answered with \(given.count) addresses")
    }
    var interfaces: [PodInterface] = []
    for (index, metadata) in given.enumerated() {
      let text = metadata.ipv4Addr.isEmpty ? metadata.ipv6Addr : metadata.ipv4Addr
      guard let address = IPAddress(text), address.isGlobalUnicast else {
        throw InvalidReply("the agent answered with \(text.quoted) for an address")
      }
      guard metadata.routeTableID > 0 else {
        throw InvalidReply("the agent answered with routing table \(metadata.routeTableID)")
      }
      guard let podName = PodResult.podInterfaceName(index, first: interface),
        let hostName = hostVethName(index)
      else { throw InvalidReply("no name for interface \(index)") }
      interfaces.append(
        PodInterface(
          index: index, hostName: hostName, podName: podName, address: address,
          eniTable: RouteTable(UInt32(metadata.routeTableID))))
    }
    return PodNetwork(
      interfaces: interfaces, mtu: configuration.mtu,
      routing: reply.podRouteTable == 0 ? .perPodRules : .table(RouteTable(reply.podRouteTable)))
  }

  /// Releases the address. The pod has already failed; a failure here is logged, and the kubelet's DEL retries.
  private func release() {
    do {
      let reply = try agent.delete(deletion(reason: "SetupNSFailed"), timeout: Patience.delete)
      if !reply.success { log.warning("cannot release the address; the kubelet's DEL will") }
    } catch {
      log.warning(
        "cannot release the address; the kubelet's DEL will", metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    }
  }

  /// A failure undoes nothing: the kubelet sends DEL.
  private func enforcePolicy(_ reply: AddNetworkReply, interfaces: Int) throws(CNIError) {
    var message = EnforceNpRequest()
    message.k8SPodName = request.arguments.podName
    message.k8SPodNamespace = request.arguments.podNamespace
    message.networkPolicyMode = reply.networkPolicyMode
    message.interfaceCount = Int32(interfaces)
    do {
      let answer = try policy.enforce(message, timeout: Patience.policy)
      guard answer.success else { throw CNIError(.failed, "add cmd: failed to setup network policy") }
    } catch let error as CNIError {
      throw error
    } catch {
      throw CNIError(.failed, "add cmd: failed to setup network policy", cause: error)
    }
  }

  /// The request that releases this call's address.
  func deletion(reason: String) -> DelNetworkRequest {
    var message = DelNetworkRequest()
    message.clientVersion = PluginCall.clientVersion
    message.k8SPodName = request.arguments.podName
    message.k8SPodNamespace = request.arguments.podNamespace
    message.k8SPodInfraContainerID = request.arguments.infraContainerID
    message.k8SPodUid = request.arguments.podUID
    message.networkName = configuration.name
    message.containerID = request.containerID
    message.ifName = request.interface?.text ?? ""
    message.reason = reason
    return message
  }
}

/// An invalid reply of the agent.
struct InvalidReply: Error, Sendable, Hashable, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

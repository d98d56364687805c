// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCLinux
import VPCModel
import VPCRPC

extension PluginCall {
  /// DEL: releases the address and removes the pod's host state. Succeeds if nothing is left to do, if the agent does
  /// not know the pod, and without an agent: the runtime must be able to remove a dead pod.
  ///
  /// | situation | what is done |
  /// |---|---|
  /// | `prevResult` names a VLAN | branch ENI: removed without the agent; nothing without CNI_NETNS |
  /// | the agent released the address and removes the host's side itself | nothing |
  /// | the agent released the address | routes and rules removed, the veth goes with the namespace |
  /// | no `prevResult`, so ADD failed | first, a leftover veth pair without an address is removed |
  /// | the agent does not know the pod | nothing: its veth, address and route may belong to a newer sandbox |
  /// | the agent cannot be reached or fails | all state named by `prevResult` is removed, including the veth |
  ///
  /// - Throws: code 999, sentences of the contract.
  func delete() throws(CNIError) {
    for problem in configuration.problems {
      log.warning("invalid network configuration; DEL continues without it", metadata: [LogKey.cause: "\(problem)"])
    }
    guard let interface = request.interface else { return }
    let previous = configuration.previousResult.flatMap {
      PreviousPod($0, interface: interface, arguments: request.arguments)
    }
    if let previous, previous.vlan != 0 { return try deleteBranch(previous) }
    if configuration.previousResult == nil { removeUnfinished(interface) }
    let reply: DelNetworkReply
    do {
      reply = try agent.delete(deletion(reason: "PodDeleted"), timeout: Patience.delete)
    } catch {
      if error.status.message.contains(PluginCall.unknownPod) {
        log.debug("agent does not know the pod")
      } else {
        deleteWithoutAgent(previous, because: error)
      }
      return
    }
    guard reply.success else { throw CNIError(.failed, "del cmd: failed to process delete request") }
    if !reply.hostVethRemoved { try removeReturned(reply, of: request.arguments, netns: request.netns) }
    if !reply.networkPolicyMode.isEmpty { try deletePolicy() }
  }

  /// A namespace that is gone or invalid contains nothing: failures here are ignored.
  private func removeUnfinished(_ interface: InterfaceName) {
    guard !request.netns.isEmpty else { return }
    do {
      let pod = try kernel.open(namespace: request.netns, allowsOwn: request.allowsOwnNamespace)
      if try pod.removeUnfinished(interface, hostSuffix: suffix(0, of: request.arguments)) {
        log.info("removed the interface of an incomplete ADD")
      }
    } catch {
      log.debug("cannot check the pod's network namespace", metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    }
  }

  /// Teardown of a pod with a branch ENI. The agent has no state for it, and neither the agent nor the network policy
  /// agent is called. Without a namespace the pod is gone, and its VLAN id may belong to another pod.
  private func deleteBranch(_ previous: PreviousPod) throws(CNIError) {
    guard !request.netns.isEmpty else { return }
    guard let first = previous.interfaces.first else {
      throw CNIError(.failed, "del cmd: failed to delete with prevResult: it has no address of the pod")
    }
    do {
      let remains = HostRemains(
        address: first.address, vethSuffix: suffix(first.index, of: request.arguments),
        eniTable: RouteTable(UInt32(previous.vlan) + 100),
        deletesVeth: false)
      try kernel.removeBranch(vlan: previous.vlan, remains: remains)
    } catch {
      throw CNIError(.failed, "del cmd: failed to delete with prevResult", cause: error)
    }
  }

  /// The text of amazon-vpc-cni-k8s for an unknown pod; a repeated DEL ends with it normally. The agent has already
  /// removed the state of unknown pods, or its next check does.
  static let unknownPod = "datastore: unknown pod"

  private func deleteWithoutAgent(_ previous: PreviousPod?, because error: RPCError) {
    log.warning(
      "DelNetwork failed; deleting from prevResult, the agent reclaims the address later",
      metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    guard let previous else { return }
    for interface in previous.interfaces {
      do {
        try kernel.remove(
          HostRemains(
            address: interface.address, vethSuffix: suffix(interface.index, of: request.arguments),
            eniTable: interface.eniTable,
            deletesVeth: true))
      } catch {
        log.warning(
          "cannot remove the pod's host interface; continuing", metadata: [LogKey.cause: "\(CauseChain.text(error))"])
      }
    }
  }

  /// Removes the host state of a reply's addresses; the veth goes with the pod's namespace.
  func removeReturned(_ reply: DelNetworkReply, of pod: PodArguments, netns: String) throws(CNIError) {
    // A branch ENI whose VLAN came from the agent: as with prevResult, nothing is touched without a namespace.
    if reply.podVlanID != 0 && netns.isEmpty { return }
    for (index, metadata) in reply.ipallocationMetadata.prefix(PodNetwork.maximumInterfaces).enumerated() {
      let text = metadata.ipv4Addr.isEmpty ? metadata.ipv6Addr : metadata.ipv4Addr
      guard let address = IPAddress(text) else {
        log.warning("DelNetwork reply has an invalid address", metadata: [LogKey.address: "\(text.quoted)"])
        continue
      }
      let branch = (1...4094).contains(reply.podVlanID)
      let table = branch ? reply.podVlanID + 100 : metadata.routeTableID
      let remains = HostRemains(
        address: address, vethSuffix: suffix(index, of: pod), eniTable: RouteTable(UInt32(clamping: table)),
        deletesVeth: false)
      do {
        if branch {
          try kernel.removeBranch(vlan: Int(reply.podVlanID), remains: remains)
        } else {
          try kernel.remove(remains)
        }
      } catch {
        throw CNIError(.failed, "del cmd: failed on tear down pod network", cause: error)
      }
    }
  }

  private func deletePolicy() throws(CNIError) {
    var message = DeleteNpRequest()
    message.k8SPodName = request.arguments.podName
    message.k8SPodNamespace = request.arguments.podNamespace
    do {
      let reply = try policy.delete(message, timeout: Patience.policy)
      if !reply.success { log.warning("network policy agent did not delete the pod's policies") }
    } catch {
      guard !error.isConnectFailure else {
        throw CNIError(.failed, "del cmd: failed to connect to network policy agent", cause: error)
      }
      log.warning(
        "network policy agent did not delete the pod's policies", metadata: [LogKey.cause: "\(CauseChain.text(error))"])
    }
  }

  private func suffix(_ index: Int, of pod: PodArguments) -> String {
    HostVethName.suffix(namespace: pod.podNamespace, pod: pod.podName, index: index)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCLinux
import VPCModel
import VPCRPC

extension PluginCall {
  /// GC: releases the addresses of this network that no valid attachment owns, with their host state.
  ///
  /// The contract has no request for it. The agent's checkpoint, written before each answer, lists all owners; each
  /// entry of this network whose container and interface the runtime does not name is deleted like with DEL. A
  /// concurrent ADD is safe: a runtime does not run both at once.
  /// - Throws: code 7 without `cni.dev/valid-attachments`, 5 for a checkpoint that cannot be read, 11 when the agent
  ///   cannot be reached, 999 if it refused some; all others have been tried then.
  func collectGarbage() throws(CNIError) {
    guard let valid = configuration.validAttachments else {
      try configuration.check()
      throw CNIError(.invalidConfiguration, "network config: cni.dev/valid-attachments is missing, GC needs it")
    }
    let stale = try staleAttachments(valid: Set(valid))
    let end = now() + Patience.collect
    var failures: [CNIError] = []
    for entry in stale {
      let left = now().duration(to: end)
      guard left > .zero else {
        throw CNIError(.tryAgainLater, "gc cmd: not all of \(stale.count) attachments released in time")
      }
      do {
        try release(entry, timeout: min(left, Patience.delete))
      } catch {
        if error.code == .tryAgainLater { throw error }
        failures.append(error)
      }
    }
    if !stale.isEmpty {
      log.info("attachments released", metadata: [LogKey.count: "\(stale.count - failures.count)"])
    }
    guard let first = failures.first else { return }
    throw CNIError(
      .failed, "gc cmd: \(failures.count) of \(stale.count) attachments not released, the first: \(first.message)")
  }

  private func staleAttachments(
    valid: Set<NetworkConfiguration.Attachment>
  ) throws(CNIError) -> [CheckpointAllocation] {
    var stale: [CheckpointAllocation] = []
    var seen: Set<NetworkConfiguration.Attachment> = valid
    let files: [[UInt8]]
    do {
      files = try checkpoints()
    } catch {
      throw CNIError(.io, "gc cmd: cannot read the agent's checkpoint", cause: error)
    }
    for file in files {
      let result = CheckpointReader.read(file)
      for finding in result.findings {
        // The agent decides about unreadable entries; an unknown file or version is no reason to delete.
        switch finding {
        case .unreadable, .version:
          throw CNIError(.io, "gc cmd: cannot read the agent's checkpoint: \(finding)")
        case .entry, .duplicateAddress, .duplicateKey, .cooldown, .givenBack:
          log.warning("checkpoint entry skipped", metadata: [LogKey.cause: "\(finding)"])
        }
      }
      for allocation in result.checkpoint.allocations where allocation.key.networkName == configuration.name {
        let attachment = NetworkConfiguration.Attachment(
          containerID: allocation.key.containerID, interface: allocation.key.ifName)
        if seen.insert(attachment).inserted { stale.append(allocation) }
      }
    }
    return stale
  }

  private func release(_ entry: CheckpointAllocation, timeout: Duration) throws(CNIError) {
    var message = DelNetworkRequest()
    message.clientVersion = PluginCall.clientVersion
    message.k8SPodName = entry.pod.name
    message.k8SPodNamespace = entry.pod.namespace
    message.networkName = entry.key.networkName
    message.containerID = entry.key.containerID
    message.ifName = entry.key.ifName
    message.reason = "GarbageCollected"
    let reply: DelNetworkReply
    do {
      reply = try agent.delete(message, timeout: timeout)
    } catch {
      if error.status.message.contains(PluginCall.unknownPod) { return }
      throw CNIError(
        error.isConnectFailure ? .tryAgainLater : .failed, "gc cmd: failed to release an attachment", cause: error)
    }
    guard reply.success else {
      throw CNIError(.failed, "gc cmd: the agent did not release container \(entry.key.containerID.quoted)")
    }
    // The pod's namespace is empty: GC does not know it.
    if !reply.hostVethRemoved {
      var names = PodArguments()
      names.podName = entry.pod.name
      names.podNamespace = entry.pod.namespace
      try removeReturned(reply, of: names, netns: "")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel

extension Agent {
  /// How long the start waits for the xtables lock; after that nftables is used until the lock is free.
  private static let lockWaitSeconds = 5

  /// The attached ENIs are known, and the kernel has the rules that do not depend on a single ENI.
  struct Prepared {
    let saved: SavedState
    /// Without the addresses that are contested.
    let attached: [ENIObservation]
    /// Whether EC2 listed them; false if it must still be asked.
    let isListedByEC2: Bool
    /// Addresses of running pods that the kernel routes by a different ENI than the listing: the listing's.
    let contested: [IPPrefix: ENIID]
    /// Whether an agent has managed this node since boot.
    let wasManaged: Bool
    /// SNAT and connection marks, on their own thread.
    let hostRules: Task<FirewallReport, any Error>
  }

  /// The checkpoint and its file, and whether it existed without damage.
  struct SavedState {
    let file: CheckpointFile
    let checkpoint: Checkpoint
    let isSound: Bool
  }

  private func readCheckpoint() throws -> SavedState {
    let file = CheckpointFile(path: settings.checkpointPath)
    try file.makeFolder()
    // Without a file, pods that the kernel has routes to are unknown: none of them counts as deleted.
    let wasThere = file.exists
    let content = file.read()
    for finding in content.findings {
      logger.warning("checkpoint damaged; keeping the valid entries", metadata: ["finding": "\(finding)"])
    }
    let translated = content.checkpoint.translated(
      to: PoolClock.now(), bootID: file.bootID, rest: settings.cooldown, lag: PoolTimings().quarantine)
    return SavedState(file: file, checkpoint: translated, isSound: wasThere && content.findings.isEmpty)
  }

  func prepare(_ node: Identified) async throws -> Prepared {
    let (network, identity) = (node.network, node.identity)
    let saved = try readCheckpoint()
    let led = try await network.ledENIs()
    let listed = try await node.enis.describeAtStart(
      NodeEvidence(
        inUse: Set(saved.checkpoint.allocations.map(\.address)), led: led ?? [], links: try await network.linkMACs()))
    let contested = try await network.begin(
      primary: identity.primary.mac, node.enis.nodeWanted(WantedENIs(enis: listed.enis.filter(\.isManaged))))
    let hostRules = Task {
      try await network.applyHostRules(
        primary: identity.primary.mac, address: identity.primaryAddress, vpcCIDRs: node.enis.primary.vpcCIDRs,
        lockWaitSeconds: Agent.lockWaitSeconds)
    }
    var attached = listed.enis
    var shownOn: [IPPrefix: ENIID] = [:]
    for index in attached.indices {
      for cidr in attached[index].cidrs where contested.contains(cidr) { shownOn[cidr] = attached[index].id }
      attached[index].cidrs.removeAll(where: contested.contains)
    }
    return Prepared(
      saved: saved, attached: attached, isListedByEC2: listed.isByEC2, contested: shownOn, wasManaged: led != nil,
      hostRules: hostRules)
  }
}

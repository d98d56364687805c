// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// Which checkpoint entries are still valid, judged by the kernel's state at startup. A value, no I/O.
///
///   entry, its veth exists                kept; its route is ensured
///   young entry, its veth is missing      the plugin may still be running: kept, and checked again
///   entry, its veth is gone               the pod ended while no agent ran: dropped, its remains are removed, and
///                                         its address cools down like that of any other pod
///   entry, its veth leads to a later
///     entry of the same pod               an earlier sandbox without a DEL: dropped, the veth stays
///   route to a veth without an entry
///     and the checkpoint is sound         the pod was deleted, the veth not yet: removed
///     and the checkpoint is damaged       the pod may be alive: its address is kept out of use until its DEL comes
struct Restoration: Sendable, Hashable {
  /// For the pool.
  private(set) var checkpoint = Checkpoint()
  /// Host sides of pods that are gone.
  private(set) var gone: [HostRemains] = []
  /// Routes to verify, by address: the veth's index.
  private(set) var routes: [IPAddress: UInt32] = [:]
  /// Addresses found only in the kernel.
  private(set) var recovered: [IPAddress] = []
  /// Recent entries whose plugin may still be at work: checked again after `youth`.
  private(set) var unproven: [Unproven] = []

  /// An entry whose veth has not appeared yet.
  struct Unproven: Sendable, Hashable {
    let key: AttachmentKey
    let vethSuffix: String
  }

  /// - Parameters:
  ///   - isSound: whether the file was read without findings, or never existed.
  ///   - podRoutes: the pods' table.
  ///   - veths: host veths by the part of the name that identifies the pod.
  ///   - cooldown: the cooldown of an ended pod's address.
  init(
    checkpoint old: Checkpoint, isSound: Bool, podRoutes: [NodeNetwork.PodRoute], veths: [String: UInt32],
    unixNanoseconds: Int64, cooldown: Duration
  ) {
    checkpoint.cooldowns = old.cooldowns
    checkpoint.returns = old.returns
    let restsUntil = unixNanoseconds.addingReportingOverflow(cooldown.saturatedNanoseconds).partialValue
    let successors = Restoration.successors(old.allocations, podRoutes)
    var known: Set<IPAddress> = []
    var live: Set<String> = []
    for allocation in old.allocations {
      let suffix = Restoration.suffix(of: allocation)
      if let suffix {
        let successor = successors[suffix].flatMap { $0.isAfter(allocation) ? $0 : nil }
        if veths[suffix] == nil, successor == nil, Restoration.isYoung(allocation, at: unixNanoseconds) {
          unproven.append(Unproven(key: allocation.key, vethSuffix: suffix))
          checkpoint.allocations.append(allocation)
          known.insert(allocation.address)
          continue
        }
        guard let index = veths[suffix], successor == nil else {
          gone.append(Restoration.remains(allocation.address, suffix, deletesVeth: successor == nil))
          checkpoint.cooldowns.append(
            CheckpointCooldown(address: allocation.address, untilUnixNanoseconds: restsUntil))
          known.insert(allocation.address)
          continue
        }
        routes[allocation.address] = index
        live.insert(suffix)
      }
      checkpoint.allocations.append(allocation)
      known.insert(allocation.address)
    }
    for route in podRoutes where !known.contains(route.address) {
      if isSound {
        gone.append(Restoration.remains(route.address, route.vethSuffix, deletesVeth: !live.contains(route.vethSuffix)))
        continue
      }
      recovered.append(route.address)
      checkpoint.allocations.append(
        CheckpointAllocation(
          key: .recovered(vethSuffix: route.vethSuffix), address: route.address, unixNanoseconds: unixNanoseconds,
          pod: PodName(namespace: "", name: "")))
    }
  }

  /// How long a plugin may take to create its veth after the answer: milliseconds, or longer on a swapping machine.
  static let youth = Duration.seconds(5)

  private static func isYoung(_ allocation: CheckpointAllocation, at unixNanoseconds: Int64) -> Bool {
    // A recovered entry exists because of its veth: without the veth the pod has ended.
    guard allocation.key.recoveredVethSuffix == nil else { return false }
    // A future time means that the wall clock was set back: the age is unknown.
    let (age, overflow) = unixNanoseconds.subtractingReportingOverflow(allocation.unixNanoseconds)
    return overflow ? allocation.unixNanoseconds > unixNanoseconds : age < youth.saturatedNanoseconds
  }

  /// The entry that a veth's route belongs to, by veth: of two sandboxes of one pod only that one is alive.
  private static func successors(
    _ allocations: [CheckpointAllocation], _ podRoutes: [NodeNetwork.PodRoute]
  ) -> [String: CheckpointAllocation] {
    let routes = Set(podRoutes)
    var found: [String: CheckpointAllocation] = [:]
    for allocation in allocations {
      guard let suffix = suffix(of: allocation),
        routes.contains(NodeNetwork.PodRoute(address: allocation.address, vethSuffix: suffix))
      else { continue }
      if let other = found[suffix], other.isAfter(allocation) { continue }
      found[suffix] = allocation
    }
    return found
  }

  /// Nil for an entry without a pod name: its veth is unknown.
  private static func suffix(of allocation: CheckpointAllocation) -> String? {
    if let suffix = allocation.key.recoveredVethSuffix { return suffix }
    guard allocation.pod.isComplete else { return nil }
    return HostVethName.suffix(namespace: allocation.pod.namespace, pod: allocation.pod.name)
  }

  private static func remains(_ address: IPAddress, _ suffix: String, deletesVeth: Bool) -> HostRemains {
    HostRemains(address: address, vethSuffix: suffix, eniTable: nil, deletesVeth: deletesVeth)
  }
}

extension CheckpointAllocation {
  /// Whether it was assigned after the other. An ADD in progress when the agent died has no route yet: it is the later
  /// one, and is kept.
  fileprivate func isAfter(_ other: CheckpointAllocation) -> Bool { unixNanoseconds > other.unixNanoseconds }
}

extension AttachmentKey {
  private static let recoveredNetwork = "_recovered-from-kernel"

  /// The key of an address in use that no checkpoint contains.
  static func recovered(vethSuffix: String) -> AttachmentKey {
    AttachmentKey(networkName: recoveredNetwork, containerID: vethSuffix, ifName: "unknown")
  }

  /// Nil for any other key.
  var recoveredVethSuffix: String? { networkName == AttachmentKey.recoveredNetwork ? containerID : nil }
}

extension PodName {
  /// Whether both parts are set: the host veth's name derives from both.
  var isComplete: Bool { !namespace.isEmpty && !name.isEmpty }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// The host side of single pods.
extension NodeNetwork {
  /// One pod's host side as the kernel shows it.
  struct PodRoute: Sendable, Hashable {
    let address: IPAddress
    /// The last 11 characters of the veth's name, which identify the pod.
    let vethSuffix: String
  }

  /// Every host veth of a pod, by the part of its name that identifies the pod; the value is its index.
  func podVeths() throws -> [String: UInt32] {
    var found: [String: UInt32] = [:]
    let links = try Link.list(on: socket)
    veths.see(all: links)
    for link in links where link.kind == "veth" {
      guard link.name.utf8.count > HostVethName.suffixLength else { continue }
      found[String(link.name.suffix(HostVethName.suffixLength))] = link.index
    }
    return found
  }

  /// Every route to one of the veths: in the pods' table, and in `main`, where amazon-vpc-cni-k8s and the per-pod
  /// scheme put them. In `main` only routes by links with a pod veth name count.
  func podRoutes(to veths: [String: UInt32]) throws -> [PodRoute] {
    let names = Dictionary(
      veths.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
    var found: Set<PodRoute> = []
    for route in try routesToPods() {
      guard let device = route.device, let suffix = names[device] else { continue }
      guard route.table == .pods || self.veths.contains(device) else { continue }
      found.insert(PodRoute(address: route.destination.address, vethSuffix: suffix))
    }
    return Array(found)
  }

  /// Every route to a single address in the tables that can hold pods' routes.
  private func routesToPods() throws -> [Route] {
    var routes: [Route] = []
    for family in settings.families {
      for table in [RouteTable.pods, .main] {
        routes += try Route.list(table: table, family: family, on: socket).filter(\.destination.isSingle)
      }
    }
    return routes
  }

  /// Ensures that pods of the checkpoint are routed by the node's scheme, whichever scheme connected them: a route in
  /// the pods' table, or in `main` with per-pod rules. Their state of the other scheme stays until their ENI is set up.
  ///
  /// - Parameter pods: the index of each one's veth.
  func restorePods(_ pods: [IPAddress: UInt32]) throws {
    guard !pods.isEmpty else { return }
    let paths = PodPaths(
      routing: routing,
      pods: pods.map { address, veth in
        PodPaths.Pod(
          address: address, veth: veth, mac: veths[veth]?.mac, eniTable: wanted.eni(of: address)?.value.table)
      })
    let links = Dictionary(try Link.list(on: socket).map { ($0.index, $0) }, uniquingKeysWith: { first, _ in first })
    let faults = paths.faults(in: try PodPaths.Sight(settings.families, links: links, on: socket)).values.flatMap { $0 }
    for (fault, failure) in zip(faults, try NodeDifference.mendEach(faults, on: socket)) {
      guard let failure else { continue }
      // One unreachable pod must not keep the agent from serving the others.
      logger.error(
        "cannot restore the route to a pod",
        metadata: ["fault": "\(fault)", "error": "\(CauseChain.text(failure))"])
    }
    guard !faults.isEmpty else { return }
    logger.notice(
      "pod routes migrated to this node's routing scheme",
      metadata: ["pods": "\(pods.count)", "changes": "\(faults.count)"])
  }

  /// Attachments whose pods have nothing on the host: no veth under any prefix, and no route to the address. Two
  /// sandboxes of one pod share a veth name; the earlier one counts as gone if it has no route.
  ///
  /// The kernel is read only if its notifications leave some in doubt. Entries without a pod name are never included.
  func withoutHostSide(_ assignments: [Assignment]) throws -> [Assignment] {
    var latest: [String: Int64] = [:]
    for assignment in assignments {
      guard let suffix = PodHolder(assignment).vethSuffix else { continue }
      latest[suffix] = max(latest[suffix] ?? .min, assignment.assignedUnixNanoseconds)
    }
    var sought: [(assignment: Assignment, suffix: String, isEarlier: Bool)] = []
    for assignment in assignments {
      guard let suffix = PodHolder(assignment).vethSuffix else { continue }
      let isEarlier = assignment.assignedUnixNanoseconds < latest[suffix] ?? .min
      guard isEarlier || veths.index(suffix: suffix) == nil else { continue }
      sought.append((assignment, suffix, isEarlier))
    }
    guard !sought.isEmpty else { return [] }
    let present = try podVeths()
    let routed = Set(try routesToPods().map(\.destination.address))
    return sought.compactMap { entry in
      let isMissing = present[entry.suffix] == nil || entry.isEarlier
      return isMissing && !routed.contains(entry.assignment.address) ? entry.assignment : nil
    }
  }

  /// Removes a pod's host side in the background. It is idempotent.
  ///
  /// Not awaited: each is bounded by one netlink exchange, with at most one per DEL.
  nonisolated func removeHostVethSoon(_ remains: HostRemains) {
    removals.start(remains.address) { [cleanup] in await cleanup.remove(remains) }
  }

  /// Returns when no removal for an earlier pod of this address is in progress.
  nonisolated func hostSideSettled(_ address: IPAddress) async { await removals.settled(address) }
}

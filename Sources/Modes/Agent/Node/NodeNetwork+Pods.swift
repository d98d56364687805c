// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel

/// What the agent sees and does of single pods' host sides.
extension NodeNetwork {
  /// One pod's host side as the kernel shows it.
  struct PodRoute: Sendable, Hashable {
    let address: IPAddress
    /// The last 11 characters of the veth's name, which say which pod it is.
    let vethSuffix: String
  }

  /// Every host veth of a pod, by the part of its name that says which pod it is; the value is its index.
  func podVeths() throws -> [String: UInt32] {
    var found: [String: UInt32] = [:]
    for link in try Link.list(on: socket) where link.kind == "veth" {
      guard link.name.utf8.count > HostVethName.suffixLength else { continue }
      found[String(link.name.suffix(HostVethName.suffixLength))] = link.index
    }
    return found
  }

  /// Every route of the pods' table that leads to one of the veths.
  func podRoutes(to veths: [String: UInt32]) throws -> [PodRoute] {
    let names = Dictionary(
      veths.map { ($0.value, $0.key) }, uniquingKeysWith: { first, _ in first })
    return try Route.list(table: .pods, family: .ipv4, on: socket).compactMap { route in
      guard route.destination.isSingle, let device = route.device, let suffix = names[device] else { return nil }
      return PodRoute(address: route.destination.address, vethSuffix: suffix)
    }
  }

  /// Makes sure that a pod which the checkpoint knows is reached through the pods' table: the routes of a pod that the
  /// reference connected stand in main.
  func restoreRoute(to address: IPAddress, veth: UInt32) {
    guard podRouteTable != nil else { return }
    do {
      try socket.perform(.replace(Route(to: IPPrefix(single: address), table: .pods, device: veth)))
    } catch {
      // One pod that cannot be reached must not keep the agent from serving the others.
      logger.error(
        "the route to a pod could not be restored",
        metadata: ["ip": "\(address)", "error": "\(CauseChain.text(error))"])
    }
  }

  /// Removes a pod's host side behind the caller's back. Repeating it does no harm.
  ///
  /// Not awaited by anyone: each is bounded by one netlink exchange, and at most one is made for each DEL.
  nonisolated func removeHostVethSoon(_ remains: HostRemains) {
    Task { await cleanup.remove(remains) }
  }
}

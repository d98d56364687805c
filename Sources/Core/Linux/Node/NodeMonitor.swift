// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
package import VPCModel
internal import VPCSystem

/// Reports changes of a node's network state by any program: rules, routes, addresses, links and settings of the pods'
/// families, and nftables.
///
/// Opened in the calling thread's namespace; later changes are reported. One thread uses it; only `interrupt` may be
/// called from any thread.
package final class NodeMonitor {
  /// The agent's own sockets, whose changes are ignored.
  package struct OwnPorts: Sendable, Hashable {
    package var route: Set<UInt32>
    package var netfilter: Set<UInt32>

    package init(route: Set<UInt32> = [], netfilter: Set<UInt32> = []) {
      self.route = route
      self.netfilter = netfilter
    }
  }

  private(set) var route: NetlinkMonitor
  /// Nil if the kernel has no netfilter netlink, and so no nftables.
  private var nftables: NftablesMonitor?
  private let bell: EventBell

  /// The kernel's queue while changes are collected: 30 pods at once are 300 kB, and an overflow only costs a full
  /// check.
  private static let queueSize: Int32 = 4 << 20

  /// Notifications taken at once: more than the kernel queues. Later ones wait for the next `take`, so that a flood
  /// does not block.
  private static let noticesAtOnce = 65_536

  private let families: Set<AddressFamily>

  /// - Parameter families: of pods' addresses.
  package init(_ families: [AddressFamily]) throws {
    self.families = Set(families)
    (route, nftables) = try NodeMonitor.open(self.families)
    bell = try EventBell()
  }

  private static func open(
    _ families: Set<AddressFamily>
  ) throws(NetlinkError) -> (route: NetlinkMonitor, nftables: NftablesMonitor?) {
    let route = try NetlinkMonitor(
      [.links, .addresses, .routes, .rules, .settings], families: families, queueSize: queueSize)
    do throws(NetlinkError) {
      return (route, try NftablesMonitor(queueSize: queueSize))
    } catch {
      guard error.code == .unsupported else { throw error }
      return (route, nil)
    }
  }

  /// Replaces failed sockets with new ones, in the calling thread's namespace. Changes between the failure and this
  /// call are not reported: check everything afterwards. `interrupt` stays unchanged.
  ///
  /// - Throws: `NetlinkError`; the old sockets stay then.
  package func reopen() throws { (route, nftables) = try NodeMonitor.open(families) }

  /// Ends the current or next `wait`. May be kept and called by any thread.
  package var interrupt: @Sendable () -> Void { { [bell] in bell.ring() } }

  /// Blocks until there is something to take, or until it is interrupted.
  ///
  /// - Throws: `SystemCallError`.
  package func wait() throws {
    var entries = [route.descriptor, bell.descriptor].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    if let nftables { entries.append(pollfd(fd: nftables.descriptor, events: Int16(POLLIN), revents: 0)) }
    while poll(&entries, nfds_t(entries.count), -1) < 0 {
      guard errno == EINTR else { throw SystemCallError(errno: errno, call: "wait for a change of the node") }
    }
    bell.clear()
  }

  /// Takes all pending changes, without waiting. Changes made by `own` sockets are left out.
  package func take(leavingOut own: OwnPorts) throws -> NodeChanges {
    var changes = NodeChanges()
    let now = ContinuousClock.now
    for _ in 0..<NodeMonitor.noticesAtOnce {
      guard let notice = try route.nextNotice(until: now) else { break }
      if notice.port == 0 || !own.route.contains(notice.port) { changes.add(notice) }
    }
    for _ in 0..<NodeMonitor.noticesAtOnce {
      guard let notice = try nftables?.next(until: now) else { break }
      if notice.port == 0 || !own.netfilter.contains(notice.port) { changes.add(notice) }
    }
    return changes
  }
}

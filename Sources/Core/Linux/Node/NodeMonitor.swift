// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCModel

/// Tells that something of a node's network state was changed, by whomever: rules, routes, addresses, links and settings
/// of IPv4, and nftables.
///
/// Opened in the calling thread's namespace; changes from then on are told. One thread uses it; only `interrupt` may be
/// called from any.
package final class NodeMonitor {
  /// Sockets whose changes are no news: they are the agent's own.
  package struct OwnPorts: Sendable, Hashable {
    package var route: Set<UInt32>
    package var netfilter: Set<UInt32>

    package init(route: Set<UInt32> = [], netfilter: Set<UInt32> = []) {
      self.route = route
      self.netfilter = netfilter
    }
  }

  private let route: NetlinkMonitor
  /// Nil where the kernel has no netfilter netlink, and so no nftables.
  private let nftables: NftablesMonitor?
  private let bell: EventBell

  /// What the kernel keeps for us while we let changes gather: 30 pods at once are 300 kB, and more only costs a look at
  /// everything.
  private static let queueSize: Int32 = 4 << 20

  package init() throws {
    route = try NetlinkMonitor(
      [.links, .addresses, .routes, .rules, .settings], families: [.ipv4], queueSize: NodeMonitor.queueSize)
    do throws(NetlinkError) {
      nftables = try NftablesMonitor(queueSize: NodeMonitor.queueSize)
    } catch {
      guard error.code == .unsupported else { throw error }
      nftables = nil
    }
    bell = try EventBell()
  }

  /// Ends a `wait` under way, or the next one. May be kept and called by any thread.
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

  /// Takes what there is, without waiting. Changes made by `own` sockets are left out.
  package func take(leavingOut own: OwnPorts) throws -> NodeChanges {
    var changes = NodeChanges()
    let now = ContinuousClock.now
    while let notice = try route.nextNotice(until: now) {
      if notice.port == 0 || !own.route.contains(notice.port) { changes.add(notice) }
    }
    while let notice = try nftables?.next(until: now) {
      if notice.port == 0 || !own.netfilter.contains(notice.port) { changes.add(notice) }
    }
    return changes
  }
}

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

  private(set) var route: NetlinkMonitor
  /// Nil where the kernel has no netfilter netlink, and so no nftables.
  private var nftables: NftablesMonitor?
  private let bell: EventBell

  /// What the kernel keeps for us while we let changes gather: 30 pods at once are 300 kB, and more only costs a look at
  /// everything.
  private static let queueSize: Int32 = 4 << 20

  /// Notices taken at once: more than the kernel keeps. What comes while they are taken waits for the next `take`, so that
  /// a flood holds nobody up.
  private static let noticesAtOnce = 65_536

  package init() throws {
    (route, nftables) = try NodeMonitor.open()
    bell = try EventBell()
  }

  private static func open() throws(NetlinkError) -> (route: NetlinkMonitor, nftables: NftablesMonitor?) {
    let route = try NetlinkMonitor(
      [.links, .addresses, .routes, .rules, .settings], families: [.ipv4], queueSize: queueSize)
    do throws(NetlinkError) {
      return (route, try NftablesMonitor(queueSize: queueSize))
    } catch {
      guard error.code == .unsupported else { throw error }
      return (route, nil)
    }
  }

  /// Opens new sockets in place of those that failed, in the calling thread's namespace. What changed between the failure
  /// and this call is not told: look at everything behind it. `interrupt` stays as it is.
  ///
  /// - Throws: `NetlinkError`; the old sockets stay then.
  package func reopen() throws { (route, nftables) = try NodeMonitor.open() }

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

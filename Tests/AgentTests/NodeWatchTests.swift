// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import TestSupport
import Testing

@testable import AgentMode
@testable import VPCLinux
@testable import VPCModel

/// The watch over the node's network when the sockets that it listens to fail.
@Suite(.requiresRoot) struct NodeWatchTests {
  @Test(.timeLimit(.minutes(1))) func noticesThatFailAreOpenedAgain() async throws {
    let node = try NamespaceFixture()
    let log = LogRecorder()
    let settings = NetworkSettings(try Settings(environment: [:]))
    let (network, watch) = try node.run {
      UnsafeTransfer(value: (try NodeNetwork(settings: settings, logger: log.logger), try NodeWatch([.ipv4])))
    }.value
    let record = RepairRecord()
    let repair = NodeRepair(
      network: network, watch: watch, assignments: { [] }, applyHostRules: { [] }, record: record,
      metrics: AgentMetrics(), time: VirtualTime().source, logger: log.logger)
    let work = PendingWork()
    // The socket is not open yet, as when the kernel refused it at the agent's start.
    let following = Task { await repair.follow(watch, work) }
    #expect(await work.next()?.scope == .everything)
    #expect(record.report.watchFailure == nil)
    for _ in 0..<2 {
      try node.ip("rule add priority 512 lookup 20512")
      #expect(await work.next()?.scope.rules == true)
      try node.ip("rule del priority 512 lookup 20512")
      #expect(await work.next()?.scope.rules == true)
      let replaced = Flag()
      let replacing = Task {
        try await watch.replaceSocket()
        replaced.set()
      }
      // The watch waits in the kernel: it replaces the socket only when something has changed.
      while !replaced.isSet {
        try node.ip("link add any0 type veth peer name any1")
        try node.ip("link del any0")
        await Task.yield()
      }
      try await replacing.value
      // From now on the watch reads from a descriptor that is no longer a socket.
      while let next = await work.next(), next.scope != .everything {}
    }
    following.cancel()
    await following.value
    #expect(log.count("cannot watch kernel changes") == 3, "\(log.all)")
    #expect(log.count("watching kernel changes again") == 3, "\(log.all)")
  }
}

/// Set once, from any task.
private final class Flag: Sendable {
  private let value = Atomic(false)

  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

extension NodeWatch {
  /// Replaces the socket that the watch listens to with something that is not a socket, and wakes the watch.
  fileprivate func replaceSocket() throws {
    let monitor = try #require(monitor)
    let other = Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC)
    try #require(other >= 0 && dup2(other, monitor.route.descriptor) >= 0)
    close(other)
  }
}

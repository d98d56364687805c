// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Waits for the link of a newly attached ENI, on a thread that lives as long as the wait: the kernel announces the
/// link, and nothing else waits meanwhile.
actor LinkWait {
  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  init() throws { executor = try ThreadExecutor(name: "link") }

  /// - Returns: nil when the deadline has passed.
  func wait(for mac: MACAddress, until deadline: ContinuousClock.Instant) throws -> Link? {
    let monitor = try NetlinkMonitor(.links)
    let socket = try NetlinkSocket()
    return try monitor.waitForLink(mac: mac, until: deadline, on: socket)
  }
}

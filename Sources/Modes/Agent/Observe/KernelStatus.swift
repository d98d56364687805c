// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The node network for `/v1/status`: concurrent requests share one check, at most one a second, since a full check
/// reads all links, rules and routes of the node.
actor KernelLook {
  /// How long an answer is reused.
  static let hold = Duration.seconds(1)

  private let look: @Sendable () async -> AgentStatus.Kernel
  private let now: @Sendable () -> ContinuousClock.Instant
  private var last: (kernel: AgentStatus.Kernel, at: ContinuousClock.Instant)?
  private var underWay: Task<AgentStatus.Kernel, Never>?

  init(
    now: @escaping @Sendable () -> ContinuousClock.Instant = { .now },
    look: @escaping @Sendable () async -> AgentStatus.Kernel
  ) {
    self.now = now
    self.look = look
  }

  /// The result of a check at most `hold` ago.
  func status() async -> AgentStatus.Kernel {
    if let last, last.at.duration(to: now()) < KernelLook.hold { return last.kernel }
    if let underWay { return await underWay.value }
    let began = now()
    let task = Task { [look] in await look() }
    underWay = task
    let kernel = await task.value
    underWay = nil
    last = (kernel, began)
    return kernel
  }
}

extension AgentStatus.Kernel {
  /// Checks the node network as the repair does, and reports what the repair has done.
  init(network: NodeNetwork, firewall: String, repairs report: RepairReport) async {
    self.init()
    scheme = await network.podRouteTable == nil ? "per-pod" : "constant"
    iptables = firewall
    // If the kernel does not answer, omit the field; the log has the reason.
    differences = (try? await network.faults(in: .everything)).map { faults in
      faults.prefix(AgentStatus.listLimit).map(\.text)
        + report.held.map { "changed repeatedly by another program: \($0)" }
    }
    repairs = report.counts.values.reduce(0, +)
    guard let last = report.last else { return }
    lastRepairSeconds = Int(max(PoolClock.now().unixNanoseconds - last.unixNanoseconds, 0) / 1_000_000_000)
    lastRepair = last.faults.joined(separator: ", ") + (last.culprit.map { ", by \($0)" } ?? "")
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The results of one policy in one scenario.
package struct Outcome: Sendable, Hashable {
  package let policy: BurstRun.Policy
  package let pods: Int
  /// The times at which pods got their addresses, since the start of the burst; sorted.
  package let readyAt: [Duration]
  /// Calls sent until the last pod had its address, by `EC2Action`.
  package let callsAtLast: [CallCount]
  /// Calls until every warm target was met.
  package let calls: [CallCount]
  package let lastCallAt: Duration
  package let failedSandboxes: Int
  /// Addresses that were assigned but should not have been.
  package let violations: [String]

  /// The time when this share of the pods had addresses; nil if it was never reached.
  package func time(of share: Double) -> Double? {
    let needed = max(Int((share * Double(pods)).rounded(.up)), 1)
    guard readyAt.count >= needed else { return nil }
    return readyAt[needed - 1].seconds
  }

  package var last: Double? { time(of: 1) }
  package var total: CallCount { calls.reduce(CallCount(), +) }
  package var totalAtLast: CallCount { callsAtLast.reduce(CallCount(), +) }
}

extension Duration {
  package var seconds: Double { Double(saturatedNanoseconds) / 1e9 }
}

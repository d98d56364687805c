// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// What one policy did in one scenario.
package struct Outcome: Sendable, Hashable {
  package let policy: BurstRun.Policy
  package let pods: Int
  /// When pods got their addresses, since the burst began; in order.
  package let readyAt: [Duration]
  /// Calls sent until the last pod had its address, by `EC2Action`.
  package let callsAtLast: [CallCount]
  /// Calls until every warm target was met.
  package let calls: [CallCount]
  package let lastCallAt: Duration
  package let failedSandboxes: Int
  /// Addresses given out that should not have been.
  package let violations: [String]

  /// When that part of the pods had addresses; nil where it was never reached.
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

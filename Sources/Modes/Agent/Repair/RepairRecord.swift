// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCModel

/// Repairs since the agent's start: for metrics, introspection and `status`.
struct RepairReport: Sendable, Hashable {
  struct Last: Sendable, Hashable {
    let unixNanoseconds: Int64
    /// What was wrong, at most eight lines of it.
    let faults: [String]
    let culprit: String?
  }

  /// By kind, objects repaired because another program changed them.
  var counts: [RepairKind: Int] = [:]
  var failures = 0
  /// Objects that another program keeps changing, repaired at intervals of up to a minute.
  var held: [String] = []
  var last: Last?
  /// When the whole node was last checked; nil before the first check.
  var lookedUnixNanoseconds: Int64?
  /// Why kernel changes cannot be watched; nil if they can. Otherwise only the check once a minute finds differences.
  var watchFailure: String?
}

/// The report, kept by the repair and read by whoever asks.
final class RepairRecord: Sendable {
  private let state = Mutex(RepairReport())

  var report: RepairReport { state.withLock { $0 } }
  func update(_ change: (inout RepairReport) -> Void) { state.withLock { change(&$0) } }
}

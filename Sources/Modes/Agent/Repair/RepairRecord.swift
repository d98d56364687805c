// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCModel

/// What the agent has put right since its start: for metrics, introspection and `status`.
struct RepairReport: Sendable, Hashable {
  struct Last: Sendable, Hashable {
    let unixNanoseconds: Int64
    /// What was wrong, at most eight lines of it.
    let faults: [String]
    let culprit: String?
  }

  /// By kind, objects put right because somebody undid them.
  var counts: [RepairKind: Int] = [:]
  var failures = 0
  /// Objects that somebody keeps undoing, so that they are put right at intervals of up to a minute.
  var held: [String] = []
  var last: Last?
  /// When the node was last looked at as a whole; nil before the first time.
  var lookedUnixNanoseconds: Int64?
  /// Why the kernel's notices do not arrive; nil where they do. Then only the minute's look finds what was undone.
  var watchFailure: String?
}

/// The report, kept by the repair and read by whoever asks.
final class RepairRecord: Sendable {
  private let state = Mutex(RepairReport())

  var report: RepairReport { state.withLock { $0 } }
  func update(_ change: (inout RepairReport) -> Void) { state.withLock { change(&$0) } }
}

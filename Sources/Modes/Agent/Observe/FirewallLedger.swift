// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCLinux

/// The last firewall report: for `/v1/status`.
final class FirewallLedger: Sendable {
  private let last = Mutex<String>("")

  func note(_ report: FirewallReport) { last.withLock { $0 = report.backend.rawValue } }

  /// `FirewallBackend`'s word; empty before the first look.
  var backend: String { last.withLock { $0 } }
}

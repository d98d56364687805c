// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCLinux
internal import VPCModel

/// Results of the calls of each EC2 action, and of the last one: for `/v1/status`.
final class EC2Ledger: Sendable {
  private struct Row {
    var call = AgentStatus.EC2.Call()
    var at: ContinuousClock.Instant
  }

  private let rows = Mutex<[String: Row]>([:])

  /// One request. For `EC2Client`'s observer.
  func note(_ call: EC2Client.Observation) {
    rows.withLock { rows in
      var row = rows[call.action] ?? Row(at: .now)
      row.call.action = call.action
      row.call.count += 1
      row.at = .now
      row.call.lastError = nil
      if let code = call.error {
        row.call.failed += 1
        row.call.lastError = code.text
        if EC2Error(action: call.action, code: code, status: call.status).isThrottling { row.call.throttled += 1 }
      }
      rows[call.action] = row
    }
  }

  /// By action's name.
  var calls: [AgentStatus.EC2.Call] {
    let now = ContinuousClock.now
    return rows.withLock { rows in
      rows.values.map { row in
        var call = row.call
        call.lastSeconds = row.at.duration(to: now).wholeSeconds
        return call
      }
    }.sorted { $0.action < $1.action }
  }
}

extension CredentialsProvider.Notice {
  func log(to logger: Logger) {
    switch self {
    case .usesExpired(let credentials, let reason):
      logger.warning(
        "AWS credentials have expired by this node's clock; using them anyway",
        metadata: ["credentials": "\(credentials)", "reason": "\(CauseChain.text(reason))"])
    case .renewed(let credentials):
      logger.notice("AWS credentials are valid again", metadata: ["credentials": "\(credentials)"])
    }
  }
}

/// The last firewall report: for `/v1/status`.
final class FirewallLedger: Sendable {
  private let last = Mutex<String>("")

  func note(_ report: FirewallReport) { last.withLock { $0 = report.backend.rawValue } }

  /// `FirewallBackend`'s word; empty before the first look.
  var backend: String { last.withLock { $0 } }
}

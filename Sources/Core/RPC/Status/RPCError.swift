// SPDX-License-Identifier: Apache-2.0

import VPCModel
import VPCSystem

/// Why a client's call failed.
package struct RPCError: CausedError, Sendable {
  /// The stage of the failure.
  package enum Stage: Sendable, Equatable {
    /// The request was refused before sending: too large, or an invalid target.
    case request
    /// No server listens at the target, or it did not accept in time: nothing was sent.
    case connect
    /// The connection broke, timed out, or was not gRPC. The peer may have acted.
    case exchange
    /// The peer answered with this status.
    case answer
  }

  package var stage: Stage
  /// The peer's status, or one for a local failure.
  package var status: RPCStatus
  /// `CNIBackend/AddNetwork`.
  package var method: String
  /// Where to: the socket's path or host:port.
  package var target: String
  package var cause: (any Error)?

  package init(
    _ stage: Stage, _ status: RPCStatus, method: String = "", target: String = "", cause: (any Error)? = nil
  ) {
    self.stage = stage
    self.status = status
    self.method = method
    self.target = target
    self.cause = cause
  }

  /// True if no agent was reached, so it cannot have acted on the request.
  package var isConnectFailure: Bool { stage == .connect }

  package var code: RPCCode { status.code }

  package var description: String { "call \(method) at \(target): \(status)" }
}

/// A system call on a socket that failed.
struct SocketError: Error, CustomStringConvertible {
  /// The call's name: `connect`.
  let call: String
  let errno: Int32

  /// `CALL: system's text`.
  var description: String { "\(call): \(SystemErrorText.text(errno))" }
}

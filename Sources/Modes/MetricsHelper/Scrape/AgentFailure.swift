// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve
internal import VPCTransport

/// Why an agent has no values in this round.
struct AgentFailure: CausedError {
  /// The words of the label `cause` (docs/metrics.md).
  enum Cause: String, Sendable, CaseIterable {
    /// No connection, or the API server could not connect.
    case unreachable
    case timedOut = "timed_out"
    /// A status other than 200.
    case refused
    /// The answer was interrupted, or ends in the middle of a line.
    case truncated
    case tooLarge = "too_large"
    case notMetrics = "not_metrics"
    /// The round ended before its turn came.
    case notReached = "not_reached"
    /// The pod has no address yet.
    case noAddress = "no_address"
  }

  let code: Cause
  let detail: String
  let cause: (any Error)?

  init(_ code: Cause, _ detail: String, cause: (any Error)? = nil) {
    self.code = code
    self.detail = detail
    self.cause = cause
  }

  init(_ problem: MetricTextReader.Problem) {
    let code: Cause =
      switch problem {
      case .tooLarge: .tooLarge
      case .truncated: .truncated
      case .notMetrics: .notMetrics
      }
    self.init(code, "\(problem)")
  }

  init(_ error: HTTPError) {
    let code: Cause =
      switch error.code {
      case .timedOut: .timedOut
      case .interrupted: .truncated
      case .bodyTooLarge, .headersTooLarge: .tooLarge
      case .malformed: .notMetrics
      default: .unreachable
      }
    self.init(code, "\(error)")
  }

  var description: String { detail }
}

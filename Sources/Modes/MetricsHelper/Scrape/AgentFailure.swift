// SPDX-License-Identifier: Apache-2.0

internal import VPCModel
internal import VPCObserve
internal import VPCTransport

/// Why an agent has no values in this round.
typealias AgentFailure = LayerError<AgentFault>

/// The words of the label `cause` (docs/metrics.md).
enum AgentFault: String, LayerFault, CaseIterable {
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

extension AgentFailure {
  init(_ problem: MetricTextReader.Problem) {
    let code: AgentFault =
      switch problem {
      case .tooLarge: .tooLarge
      case .truncated: .truncated
      case .notMetrics: .notMetrics
      }
    self.init(code, "\(problem)")
  }

  init(_ error: HTTPError) {
    let code: AgentFault =
      switch error.code {
      case .timedOut: .timedOut
      case .interrupted: .truncated
      case .bodyTooLarge, .headersTooLarge: .tooLarge
      case .malformed: .notMetrics
      default: .unreachable
      }
    self.init(code, "\(error)")
  }
}

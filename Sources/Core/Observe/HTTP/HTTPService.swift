// SPDX-License-Identifier: Apache-2.0

package import NIOCore
package import VPCModel

/// Keeps an endpoint listening: a failed bind is retried, and a closed listener is recreated.
///
/// A busy port must not stop or delay the process: serving pods comes first.
package struct HTTPService: Sendable {
  /// Events for its owner to log.
  package enum Report: Sendable {
    /// Reported only for the first consecutive failure; later tries are silent.
    case failed(any Error)
    /// The port is the real one.
    case listening(port: Int)
  }

  private let address: ListenAddress
  private let limits: HTTPEndpoint.Limits
  /// The waits between tries: the first, doubled with each failure up to the last. Source: amazon-vpc-cni-k8s.
  private let backoff: ClosedRange<Duration>
  private let group: (any EventLoopGroup)?
  private let handler: HTTPEndpoint.Handler
  private let report: @Sendable (Report) -> Void

  /// - Parameters:
  ///   - group: to run on; it must live until `run` has returned. Nil creates a thread while it listens.
  ///   - report: called by `run`; must not wait.
  package init(
    at address: ListenAddress, on group: (any EventLoopGroup)? = nil,
    limits: HTTPEndpoint.Limits = HTTPEndpoint.Limits(),
    backoff: ClosedRange<Duration> = .seconds(1) ... .seconds(60), handler: @escaping HTTPEndpoint.Handler,
    report: @escaping @Sendable (Report) -> Void
  ) {
    self.address = address
    self.limits = limits
    self.backoff = backoff
    self.group = group
    self.handler = handler
    self.report = report
  }

  /// Serves until the task is cancelled; then the listener, its connections and its socket's file are gone.
  package func run() async {
    var wait = backoff.lowerBound
    var isFailing = false
    while !Task.isCancelled {
      do {
        let endpoint = try await HTTPEndpoint.start(at: address, limits: limits, on: group, handler: handler)
        report(.listening(port: endpoint.port))
        (wait, isFailing) = (backoff.lowerBound, false)
        await endpoint.untilClosed()
        await endpoint.shutdown()
      } catch {
        if !isFailing { report(.failed(error)) }
        isFailing = true
      }
      do {
        if !Task.isCancelled { try await Task.sleep(for: wait) }
      } catch {
        return  // cancelled
      }
      wait = min(wait * 2, backoff.upperBound)
    }
  }
}

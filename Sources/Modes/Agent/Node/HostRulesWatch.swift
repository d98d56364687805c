// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

/// Retries unfinished firewall rules until all are in place. `NodeRepair` checks them every minute, and after a kernel
/// notification.
struct HostRulesWatch: Sendable {
  let network: NodeNetwork
  let time: TimeSource
  let logger: Logger

  /// Doubled by each consecutive failure, up to the second value.
  static let retries = Duration.seconds(1) ... .seconds(30)

  /// Waits for something unfinished, until cancelled.
  func run() async {
    while await network.hostRules.unfinished.wait() {
      var said: String?
      for attempt in 0... {
        let (first, last) = (HostRulesWatch.retries.lowerBound, HostRulesWatch.retries.upperBound)
        guard (try? await time.sleep(time.jittered(min(first * (1 << min(attempt, 6)), last)))) != nil else { return }
        do {
          if try await network.verifyHostRules()?.isComplete ?? true { break }
        } catch {
          let text = CauseChain.text(error)
          if text != said {
            logger.error(
              "cannot verify the firewall rules; will retry", metadata: ["error": "\(text)"])
          }
          said = text
        }
      }
    }
  }
}

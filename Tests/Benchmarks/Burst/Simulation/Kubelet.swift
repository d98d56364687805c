// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// The pods of one node. Each pod gets a sandbox, and after a failure another one some time later.
///
/// Source of the wait: kubelet's pod_workers.go, backOffPeriod of 10 s times 1 … 1.5 after a failed sync.
package final class Kubelet {
  /// The time from the sandbox's start to the call of the plugin.
  package static let sandboxLatency = Duration.milliseconds(200)
  package static let retryWait = Duration.seconds(10)
  package static let retryJitter = 0.5

  private let node: any BurstNode
  private let clock: VirtualClock
  private var random: SplitMix64
  private let ready: (Int, IPAddress) -> Void
  package private(set) var failedSandboxes = 0

  /// - Parameter ready: called with every pod that got its address.
  package init(
    node: any BurstNode, clock: VirtualClock, seed: UInt64, ready: @escaping (Int, IPAddress) -> Void
  ) {
    self.node = node
    self.clock = clock
    random = SplitMix64(seed: seed)
    self.ready = ready
  }

  /// Starts pods, each at its own instant within `spread`.
  package func start(pods: Range<Int>, spread: Duration) {
    for pod in pods {
      clock.after(spread * Double.random(in: 0..<1, using: &random)) { self.makeSandbox(pod) }
    }
  }

  private func makeSandbox(_ pod: Int) {
    clock.after(Kubelet.sandboxLatency) {
      self.node.add(pod: pod) { address in
        if let address { return self.ready(pod, address) }
        self.failedSandboxes += 1
        let jitter = Double.random(in: 0..<Kubelet.retryJitter, using: &self.random)
        self.clock.after(Kubelet.retryWait * (1 + jitter)) { self.makeSandbox(pod) }
      }
    }
  }
}

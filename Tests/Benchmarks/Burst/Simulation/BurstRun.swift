// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Runs one policy through one scenario.
package struct BurstRun {
  package enum Policy: String, Sendable, CaseIterable { case ours, reference }

  /// A run ends when no call was made for this long after the last pod. No wait of either policy is longer.
  package static let quiet = Duration.seconds(900)
  /// A run ends at this time at the latest, even if something is missing.
  package static let limit = Duration.seconds(4 * 3600)

  /// Runs to the end.
  ///
  /// - Returns: what the pods and EC2 saw; the same for the same scenario and policy.
  package static func run(_ scenario: Scenario, _ policy: Policy) -> Outcome {
    let clock = VirtualClock()
    let ec2 = SimulatedEC2(clock: clock, eniLimit: scenario.settings.eniLimit, share: scenario.share)
    var seeds = SplitMix64(seed: scenario.seed)
    let begin = clock.now
    var readyAt: [Duration] = []
    var callsAtLast = ec2.counts
    readyAt.reserveCapacity(scenario.pods)
    var kubelets: [Kubelet] = []
    for number in 0..<scenario.nodes {
      let node: any BurstNode
      guard let primary = ec2.addPrimary(node: number, scenario.settings.kind, count: scenario.warmCIDRs) else {
        preconditionFailure("the subnet holds all nodes")
      }
      switch policy {
      case .ours:
        let ours = OurNode(number: number, scenario: scenario, clock: clock, ec2: ec2, seed: seeds.next())
        ours.start(primary: primary)
        node = ours
      case .reference:
        let reference = ReferenceNode(number: number, scenario: scenario, clock: clock, ec2: ec2, seed: seeds.next())
        reference.start(primary: primary)
        node = reference
      }
      let kubelet = Kubelet(node: node, clock: clock, seed: seeds.next()) { _, _ in
        readyAt.append(clock.now - begin)
        callsAtLast = ec2.counts
      }
      let first = number * scenario.podsPerNode
      kubelet.start(pods: first..<first + scenario.podsPerNode, spread: scenario.spread)
      kubelets.append(kubelet)
    }
    while clock.now - begin < limit, clock.step() {
      if readyAt.count == scenario.pods, clock.now - ec2.lastCallAt > quiet { break }
    }
    return Outcome(
      policy: policy, pods: scenario.pods, readyAt: readyAt, callsAtLast: callsAtLast, calls: ec2.counts,
      lastCallAt: ec2.lastCallAt - begin, failedSandboxes: kubelets.reduce(0) { $0 + $1.failedSandboxes },
      violations: ec2.violations)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import BurstSimulation

/// The model of amazon-vpc-cni-k8s makes the same calls as amazon-vpc-cni-k8s.
@Suite struct ReferenceNodeTests {
  static func scenario(_ settings: PoolSettings, pods: Int, nodes: Int = 1) -> Scenario {
    Scenario(name: "test", nodes: nodes, podsPerNode: pods, settings: settings, seed: 5)
  }

  static func calls(_ outcome: Outcome) -> [EC2Action: Int] {
    var calls: [EC2Action: Int] = [:]
    for action in EC2Action.allCases where outcome.calls[action.rawValue].sent > 0 {
      calls[action] = outcome.calls[action.rawValue].sent
    }
    return calls
  }

  /// t3.small: three ENIs of three addresses; WARM_ENI_TARGET=1. The published rows for 0, 5 and 9 pods.
  @Test(arguments: [(0, 0), (5, 2), (9, 2)]) func sixCallsForEachENI(_ pods: Int, _ enis: Int) {
    let settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 3, maxPods: 11)
    let outcome = BurstRun.run(Self.scenario(settings, pods: pods), .reference)
    let expected: [EC2Action: Int] =
      enis == 0
      ? [:]
      : [
        .describeSubnets: 2 * enis, .createNetworkInterface: enis, .describeInstances: enis,
        .attachNetworkInterface: enis, .modifyNetworkInterfaceAttribute: enis,
      ]
    #expect(Self.calls(outcome) == expected)
    #expect(outcome.readyAt.count == pods)
    #expect(outcome.violations == [])
  }

  /// t3.small with prefixes, WARM_PREFIX_TARGET=1: 1, 2, 2, 3 and 5 prefixes for 0, 5, 16, 17 and 58 pods. Each call
  /// assigns one prefix; the first prefix exists from the start. An ENI holds three: the fourth needs a second ENI.
  @Test(arguments: [(0, 1), (5, 2), (16, 2), (17, 3), (40, 4), (58, 5)]) func prefixesOneByOne(
    _ pods: Int, _ prefixes: Int
  ) {
    let settings = PoolSettings(
      instanceENILimit: 3, slotsPerENI: 3, maxPods: 110, warmPrefixTarget: 1, usesPrefixes: true)
    let outcome = BurstRun.run(Self.scenario(settings, pods: pods), .reference)
    let calls = Self.calls(outcome)
    #expect((calls[.assignPrivateIpAddresses] ?? 0) + (calls[.createNetworkInterface] ?? 0) == prefixes - 1)
    #expect(outcome.violations == [])
  }

  @Test func oneENIForEachRound() {
    let settings = PoolSettings(instanceENILimit: 4, slotsPerENI: 3, maxPods: 20)
    let outcome = BurstRun.run(Self.scenario(settings, pods: 12), .reference)
    // Three rounds: at least two whole ticks between the first ENI and the last.
    let times = outcome.readyAt.map(\.seconds)
    #expect((times.last ?? 0) - (times.first ?? 0) > 10)
    #expect(outcome.failedSandboxes > 0)
  }

  @Test func sdkMakesThreeAttemptsWhileItHasTokens() {
    let clock = VirtualClock()
    let sdk = SDKClient(clock: clock, seed: 1)
    var attempts = 0
    let refused = { (answer: @escaping SimulatedEC2.Answer<Void>) in
      attempts += 1
      answer(.failure(.throttled))
    }
    var ends = 0
    for _ in 0..<49 {
      sdk.call(refused) { _ in ends += 1 }
      while clock.step() {}
    }
    #expect(attempts == 49 * 3 && ends == 49)
    #expect(sdk.tokens == 500 - 49 * 10)
    sdk.call(refused) { _ in ends += 1 }
    while clock.step() {}
    sdk.call(refused) { _ in ends += 1 }
    while clock.step() {}
    #expect(attempts == 50 * 3 + 1, "no token is left for a retry")
    sdk.call({ $0(.success(())) }) { _ in ends += 1 }
    #expect(sdk.tokens == 1)
  }
}

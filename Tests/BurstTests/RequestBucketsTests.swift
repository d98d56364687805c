// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import BurstSimulation

@Suite struct RequestBucketsTests {
  struct Row: Sendable, CustomTestStringConvertible {
    let action: EC2Action
    let capacity: Int
    let refillPerSecond: Int
    var testDescription: String { action.name }
  }

  /// The table of Tests/Simulator/simulator/buckets.py.
  static let rows: [Row] = [
    Row(action: .createNetworkInterface, capacity: 100, refillPerSecond: 5),
    Row(action: .attachNetworkInterface, capacity: 50, refillPerSecond: 5),
    Row(action: .modifyNetworkInterfaceAttribute, capacity: 100, refillPerSecond: 5),
    Row(action: .assignPrivateIpAddresses, capacity: 100, refillPerSecond: 5),
    Row(action: .unassignPrivateIpAddresses, capacity: 100, refillPerSecond: 5),
    Row(action: .detachNetworkInterface, capacity: 50, refillPerSecond: 5),
    Row(action: .deleteNetworkInterface, capacity: 100, refillPerSecond: 5),
    Row(action: .describeSubnets, capacity: 100, refillPerSecond: 20),
    Row(action: .describeInstances, capacity: 100, refillPerSecond: 20),
    Row(action: .describeNetworkInterfaces, capacity: 100, refillPerSecond: 20),
  ]

  static func admitted(_ buckets: inout RequestBuckets, _ action: EC2Action, _ calls: Int, at now: PoolInstant) -> Int {
    (0..<calls).count { _ in buckets.admit(action, now: now) }
  }

  @Test func everyActionIsInTheTable() {
    #expect(Set(Self.rows.map(\.action)) == Set(EC2Action.allCases))
  }

  @Test(arguments: rows) func capacityThenRefill(_ row: Row) {
    var buckets = RequestBuckets()
    let start = PoolInstant(sinceBoot: .seconds(1000))
    let half = Duration.milliseconds(500 / row.refillPerSecond)
    let later = start + .seconds(3)
    let steps: [(at: PoolInstant, admitted: Int)] = [
      (start, row.capacity), (later, 3 * row.refillPerSecond),
      // Half a token does not allow a call, but it is not lost.
      (later + half, 0), (later + half + half, 1),
      // The bucket never holds more than its capacity.
      (start + .seconds(100_000), row.capacity),
    ]
    for step in steps {
      let admitted = Self.admitted(&buckets, row.action, 1000, at: step.at)
      #expect(admitted == step.admitted)
    }
  }

  @Test func actionsDoNotShareABucket() {
    var buckets = RequestBuckets()
    let now = PoolInstant(sinceBoot: .seconds(1000))
    _ = Self.admitted(&buckets, .createNetworkInterface, 1000, at: now)
    let isAdmitted = buckets.admit(.modifyNetworkInterfaceAttribute, now: now)
    #expect(isAdmitted)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The worked examples of the amazon-vpc-cni-k8s documents, as far as they agree with its code, on the whole pool.
@Suite struct TargetTests {
  struct Row: Sendable, CustomTestStringConvertible {
    let type: String
    var warmENI = 1
    var warmIP = 0
    var minimumIP = 0
    var warmPrefix = 0
    var usesPrefixes = false
    let pods: Int
    /// Addresses, or prefixes.
    let held: Int
    let enis: Int

    var testDescription: String {
      "\(type) eni \(warmENI) ip \(warmIP) min \(minimumIP) prefix \(usesPrefixes ? warmPrefix : -1): \(pods) pods"
    }
  }

  static let rows: [Row] = [
    Row(type: "t3.small", pods: 0, held: 3, enis: 1),
    Row(type: "t3.small", pods: 5, held: 9, enis: 3),
    Row(type: "t3.small", pods: 9, held: 9, enis: 3),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, pods: 0, held: 1, enis: 1),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, pods: 5, held: 6, enis: 2),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, pods: 9, held: 9, enis: 3),
    Row(type: "t3.small", warmIP: 2, minimumIP: 5, pods: 0, held: 5, enis: 2),
    Row(type: "t3.small", warmIP: 2, minimumIP: 5, pods: 5, held: 7, enis: 3),
    Row(type: "t3.small", warmIP: 2, minimumIP: 5, pods: 9, held: 9, enis: 3),
    Row(type: "p3dn.24xlarge", pods: 0, held: 49, enis: 1),
    Row(type: "p3dn.24xlarge", pods: 3, held: 98, enis: 2),
    Row(type: "p3dn.24xlarge", pods: 95, held: 147, enis: 3),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, pods: 0, held: 10, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, pods: 7, held: 12, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, pods: 15, held: 20, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, pods: 45, held: 50, enis: 2),
    Row(type: "t3.small", warmPrefix: 1, usesPrefixes: true, pods: 0, held: 1, enis: 1),
    Row(type: "t3.small", warmPrefix: 1, usesPrefixes: true, pods: 5, held: 2, enis: 1),
    Row(type: "t3.small", warmPrefix: 1, usesPrefixes: true, pods: 16, held: 2, enis: 1),
    Row(type: "t3.small", warmPrefix: 1, usesPrefixes: true, pods: 17, held: 3, enis: 1),
    Row(type: "t3.small", warmPrefix: 1, usesPrefixes: true, pods: 58, held: 5, enis: 2),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, usesPrefixes: true, pods: 0, held: 1, enis: 1),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, usesPrefixes: true, pods: 5, held: 1, enis: 1),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, usesPrefixes: true, pods: 17, held: 2, enis: 1),
    Row(type: "t3.small", warmIP: 1, minimumIP: 1, usesPrefixes: true, pods: 58, held: 4, enis: 2),
    Row(type: "t3.small", warmIP: 7, minimumIP: 20, usesPrefixes: true, pods: 0, held: 2, enis: 1),
    Row(type: "t3.small", warmIP: 7, minimumIP: 20, usesPrefixes: true, pods: 5, held: 2, enis: 1),
    Row(type: "t3.small", warmIP: 7, minimumIP: 20, usesPrefixes: true, pods: 17, held: 2, enis: 1),
    Row(type: "t3.small", warmIP: 7, minimumIP: 20, usesPrefixes: true, pods: 58, held: 5, enis: 2),
    // The documents count a second and third ENI for these, but the code of amazon-vpc-cni-k8s does not attach them.
    Row(type: "p3dn.24xlarge", warmPrefix: 1, usesPrefixes: true, pods: 0, held: 1, enis: 1),
    Row(type: "p3dn.24xlarge", warmPrefix: 1, usesPrefixes: true, pods: 3, held: 2, enis: 1),
    Row(type: "p3dn.24xlarge", warmPrefix: 1, usesPrefixes: true, pods: 95, held: 7, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, usesPrefixes: true, pods: 0, held: 1, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, usesPrefixes: true, pods: 7, held: 1, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, usesPrefixes: true, pods: 15, held: 2, enis: 1),
    Row(type: "p3dn.24xlarge", warmIP: 5, minimumIP: 10, usesPrefixes: true, pods: 45, held: 4, enis: 1),
  ]

  static func settings(_ row: Row) throws -> PoolSettings {
    let limits = try #require(InstanceLimits(instanceType: row.type))
    return PoolSettings(
      instanceENILimit: limits.eniLimit, slotsPerENI: limits.ipv4Limit - 1, maxPods: 250, warmENITarget: row.warmENI,
      warmIPTarget: row.warmIP, minimumIPTarget: row.minimumIP, warmPrefixTarget: row.warmPrefix,
      usesPrefixes: row.usesPrefixes)
  }

  @Test(arguments: rows) func workedValue(_ row: Row) throws {
    var rig = PoolRig(try Self.settings(row))
    rig.start()
    rig.settle()
    for pod in 0..<row.pods {
      let waiter = rig.add("pod-\(pod)")
      rig.settle()
      #expect(rig.address(waiter) != nil)
    }
    rig.advance(.seconds(300))
    #expect(rig.enis.values.map(\.cidrs.count).reduce(0, +) == row.held)
    #expect(rig.enis.count == row.enis)
    #expect(rig.violations == [])
  }

  @Test(arguments: rows) func comesBackDown(_ row: Row) throws {
    var rig = PoolRig(try Self.settings(row))
    rig.start()
    rig.settle()
    let start = rig.enis.values.map(\.cidrs.count).reduce(0, +)
    for pod in 0..<row.pods { rig.add("pod-\(pod)") }
    rig.settle()
    for pod in 0..<row.pods { rig.delete("pod-\(pod)") }
    rig.advance(.seconds(1800))
    let held = rig.enis.values.map(\.cidrs.count).reduce(0, +)
    // WARM_ENI_TARGET gives back whole ENIs only, and never the addresses of the primary ENI.
    #expect(held <= max(start, row.warmIP == 0 && !row.usesPrefixes ? 6 : start))
    #expect(rig.violations == [])
    let calls = rig.calls
    rig.advance(.seconds(3600))
    #expect(rig.calls == calls, "an idle hour costs no call")
  }

  @Test func neverBeyondMaxPods() {
    var settings = PoolSettings(instanceENILimit: 8, slotsPerENI: 29, maxPods: 40, warmENITarget: 1)
    var rig = PoolRig(settings)
    rig.start()
    for pod in 0..<40 { rig.add("pod-\(pod)") }
    rig.settle()
    #expect(rig.pool.counts.total == 40)
    let refused = rig.add("one too many")
    #expect(rig.cause(refused) == .maxPodsReached(40))
    settings.maxPods = 0
    #expect(rig.violations == [])
  }

  @Test func minimumAloneDoesNotStarve() {
    var rig = PoolRig(
      PoolSettings(
        instanceENILimit: 4, slotsPerENI: 14, minimumIPTarget: 22, warmPrefixTarget: 1, usesPrefixes: true))
    rig.start()
    rig.settle()
    #expect(rig.pool.counts.total == 32)
    let waiters = (0..<67).map { rig.add("pod-\($0)") }
    rig.settle()
    #expect(waiters.allSatisfy { rig.address($0) != nil })
    #expect(rig.violations == [])
  }
}

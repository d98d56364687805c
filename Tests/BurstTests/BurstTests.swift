// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import BurstSimulation

@Suite struct BurstTests {
  /// Twenty nodes with a twenty-fifth of every bucket: as much contention as with five hundred.
  static func crowd(_ name: String = "m5.4xlarge", nodes: Int = 20, seed: UInt64) throws -> Scenario {
    var scenario = try #require(Scenario.standard(nodes: nodes, seed: seed).first { $0.name == name })
    scenario.share = 500 / nodes
    return scenario
  }

  /// The last pod is ready in at most half the time of amazon-vpc-cni-k8s or within 1.2 times the bound, with at most
  /// half its calls.
  @Test(arguments: ["m5.4xlarge", "m5.large", "m5.4xlarge-prefixes"], [1, 2, 3] as [UInt64])
  func smallBurstMeetsTheTarget(name: String, seed: UInt64) throws {
    let comparison = Comparison(try Self.crowd(name, seed: seed))
    let (ours, reference) = (comparison.ours, comparison.reference)
    let complete = ours.readyAt.count == comparison.scenario.pods && reference.readyAt.count == comparison.scenario.pods
    #expect(complete)
    #expect(ours.violations == [] && reference.violations == [])
    let isMet = comparison.meetsTarget
    #expect(isMet, "\(comparison.text)")
  }

  @Test func sameSeedSameRun() throws {
    for policy in BurstRun.Policy.allCases {
      let first = BurstRun.run(try Self.crowd(nodes: 10, seed: 9), policy)
      let isSame = first == BurstRun.run(try Self.crowd(nodes: 10, seed: 9), policy)
      let isOther = first != BurstRun.run(try Self.crowd(nodes: 10, seed: 10), policy)
      #expect(isSame && isOther)
    }
  }

  /// The fewest calls of a node, and the time that the buckets need for them with 500 nodes, calculated by hand.
  @Test(arguments: [
    ("m5.4xlarge", EC2Action.attachNetworkInterface, 1, 90.0), ("m5.large", .attachNetworkInterface, 2, 190.0),
    ("m5.4xlarge-prefixes", .assignPrivateIpAddresses, 1, 80.0),
  ]) func bound(_ name: String, _ action: EC2Action, _ calls: Int, _ seconds: Double) throws {
    let scenario = try #require(Scenario.standard(nodes: 500, seed: 1).first { $0.name == name })
    #expect(scenario.fewestCalls[action] == calls)
    let bound = try #require(scenario.bound)
    #expect(bound.action == action && bound.seconds == seconds)
  }

  @Test func noRunIsFasterThanTheBound() throws {
    let scenario = try Self.crowd(nodes: 10, seed: 4)
    let bound = try #require(scenario.bound)
    for policy in BurstRun.Policy.allCases {
      let last = try #require(BurstRun.run(scenario, policy).last)
      #expect(last >= bound.seconds)
    }
  }

  @Test func jsonCanBeRead() throws {
    let comparison = Comparison(try Self.crowd(nodes: 10, seed: 6))
    let read = try JSONParser.parse(Array(comparison.json.text.utf8))
    let isMet = comparison.meetsTarget
    #expect(read["ours"]?["last"] != nil && read["meetsTarget"]?.bool == isMet)
    #expect(read["reference"]?["calls"]?["CreateNetworkInterface"]?["accepted"]?.int ?? 0 > 0)
  }
}

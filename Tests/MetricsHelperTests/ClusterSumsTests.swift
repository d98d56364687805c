// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import MetricsHelperMode

extension ClusterMetric {
  /// The index of a row of the table, found by its CloudWatch name.
  static func index(_ name: String) -> Int {
    guard let index = all.firstIndex(where: { $0.name == name }) else { preconditionFailure("no metric \(name)") }
    return index
  }
}

extension AgentReading {
  /// A reading with some values, given by CloudWatch name.
  init(_ values: [String: Double], start: Double? = nil) {
    self.init()
    for (name, value) in values { self.values[ClusterMetric.index(name)] = value }
    processStart = start
  }
}

@Suite struct ClusterSumsTests {
  /// One round: the reading of each agent.
  private typealias Round = [String: AgentReading]

  /// The value of one metric after each round.
  private static func run(
    _ name: String, since: Double = 1_000, listed: [Set<String>]? = nil, _ rounds: [[String: AgentReading]]
  ) -> [Double?] {
    var sums = ClusterSums(watchingSince: since)
    return rounds.enumerated().map { index, round in
      sums.beginRound(listed: listed?[index] ?? Set(round.keys))
      for (uid, reading) in round.sorted(by: { $0.key < $1.key }) { sums.add(reading, of: uid) }
      return sums.values[ClusterMetric.index(name)]
    }
  }

  private static func adds(_ count: Double, start: Double? = 500) -> AgentReading {
    AgentReading(["addReqCount": count], start: start)
  }

  @Test func gaugesAreTheSumsOfTheRound() {
    let one = AgentReading(["totalIPAddresses": 10])
    let two = AgentReading(["totalIPAddresses": 20])
    #expect(Self.run("totalIPAddresses", [["a": one, "b": two], ["a": one], [:], ["b": two]]) == [30, 10, nil, 20])
  }

  @Test func latencyIsTheHighest() {
    let found = Self.run(
      "awsAPILatency", [["a": AgentReading(["awsAPILatency": 80]), "b": AgentReading(["awsAPILatency": 250])]])
    #expect(found == [250])
  }

  /// Two agents at constant 10 and 20: the helper of amazon-vpc-cni-k8s publishes 20 every round.
  @Test func constantCountsAreNoIncrements() {
    let round = ["a": Self.adds(10), "b": Self.adds(20)]
    #expect(Self.run("addReqCount", [round, round, round]) == [0, 0, 0])
  }

  @Test func incrementsAddUpOverAllAgents() {
    let found = Self.run(
      "addReqCount", [["a": Self.adds(10), "b": Self.adds(20)], ["a": Self.adds(13), "b": Self.adds(24)]])
    #expect(found == [0, 7])
  }

  @Test func aRestartCountsFromZero() {
    // A lower count shows a restart, and so does a later start even if the count is higher.
    #expect(Self.run("addReqCount", [["a": Self.adds(10)], ["a": Self.adds(4, start: 1_500)]]) == [0, 4])
    #expect(Self.run("addReqCount", [["a": Self.adds(10)], ["a": Self.adds(14, start: 1_500)]]) == [0, 14])
    #expect(Self.run("addReqCount", [["a": Self.adds(10, start: nil)], ["a": Self.adds(4, start: nil)]]) == [0, 4])
    #expect(Self.run("addReqCount", [["a": Self.adds(10, start: nil)], ["a": Self.adds(14, start: nil)]]) == [0, 4])
  }

  @Test func oneAgentsRestartDoesNotHideInTheSum() {
    let found = Self.run(
      "addReqCount",
      [["a": Self.adds(100), "b": Self.adds(100)], ["a": Self.adds(150), "b": Self.adds(3, start: 2_000)]])
    #expect(found == [0, 53])
  }

  @Test func aSilentAgentsCountsComeWhenItAnswersAgain() {
    let all: Set<String> = ["a", "b"]
    let found = Self.run(
      "addReqCount", listed: [all, all, all],
      [
        ["a": Self.adds(10), "b": Self.adds(20)], ["a": Self.adds(11)],
        ["a": Self.adds(12), "b": Self.adds(25)],
      ])
    #expect(found == [0, 1, 6])
  }

  @Test func aVanishedAgentTakesNothingAway() {
    let found = Self.run(
      "addReqCount", [["a": Self.adds(10), "b": Self.adds(2_000)], ["a": Self.adds(12)], ["a": Self.adds(15)]])
    #expect(found == [0, 2, 3])
  }

  @Test func aNewAgentsFirstCountsAreIncrements() {
    // An agent that started after the helper has only new counts. With an earlier or unknown start, none is new.
    let old = Self.adds(10)
    #expect(Self.run("addReqCount", [["a": old], ["a": old, "b": Self.adds(5, start: 1_200)]]) == [0, 5])
    #expect(Self.run("addReqCount", [["a": old], ["a": old, "b": Self.adds(5, start: 900)]]) == [0, 0])
    #expect(Self.run("addReqCount", [["a": old], ["a": old, "b": Self.adds(5, start: nil)]]) == [0, 0])
  }

  @Test func aSeriesThatComesLaterCountsFromZero() {
    let found = Self.run(
      "awsAPIErr", [["a": Self.adds(1)], ["a": AgentReading(["addReqCount": 1, "awsAPIErr": 3], start: 500)]])
    #expect(found == [nil, 3])
  }

  @Test func linesLostInATextAreNoRestart() {
    let found = Self.run("addReqCount", [["a": Self.adds(10)], ["a": Self.adds(6)], ["a": Self.adds(12)]])
    #expect(found == [0, 0, 2])
  }

  @Test func familiesAreTheUnion() {
    var sums = ClusterSums(watchingSince: 0)
    sums.beginRound(listed: ["a", "b"])
    sums.add(AgentReading(["eniAllocated": 2, "awsAPIErr": 1]), of: "a")
    sums.add(AgentReading(["eniAllocated": 3, "ipamdErr": 1]), of: "b")
    let present = zip(ClusterMetric.all, sums.values).filter { $0.1 != nil }.map(\.0.name)
    #expect(Set(present) == ["eniAllocated", "awsAPIErr", "ipamdErr"])
  }

  @Test func whatIsNotListedIsForgotten() {
    var sums = ClusterSums(watchingSince: 0)
    for round in 0..<100 {
      let uids = (0..<10).map { "\(round)-\($0)" }
      sums.beginRound(listed: Set(uids))
      for uid in uids { sums.add(Self.adds(1), of: uid) }
    }
    #expect(sums.agentCount == 10)
  }

  /// Agents appear, count, restart, fall silent and disappear at random. The sum of all increments is what the agents
  /// counted while the helper could know about it.
  @Test(arguments: [UInt64(1), 2, 3, 4, 5, 6])
  func everyCountIsPublishedOnce(seed: UInt64) {
    struct Agent {
      var start: Double
      var count = 0.0
      var published = 0.0
      var isKnown = false
    }
    var random = SplitMix64(seed: seed)
    var sums = ClusterSums(watchingSince: 0)
    var agents: [String: Agent] = [:]
    var next = 0
    for round in 1...400 {
      if agents.count < 30, Bool.random(using: &random) {
        next += 1
        agents["\(next)"] = Agent(start: Double(round) * 30)
      }
      if let gone = agents.keys.sorted().randomElement(using: &random), Int.random(in: 0..<20, using: &random) == 0 {
        agents[gone] = nil
      }
      sums.beginRound(listed: Set(agents.keys))
      var expected = 0.0
      var isAnyHeard = false
      for uid in agents.keys.sorted() {
        guard var agent = agents[uid] else { continue }
        if Int.random(in: 0..<15, using: &random) == 0 {
          // Counts that nobody has read are lost with the process.
          agent = Agent(start: Double(round) * 30 + 10)
        }
        agent.count += Double(Int.random(in: 0..<10, using: &random))
        if Int.random(in: 0..<5, using: &random) > 0 {
          isAnyHeard = true
          expected += agent.count - agent.published
          agent.published = agent.count
          sums.add(Self.adds(agent.count, start: agent.start), of: uid)
        }
        agents[uid] = agent
      }
      #expect(
        sums.values[ClusterMetric.index("addReqCount")] == (isAnyHeard ? expected : nil), "seed \(seed), \(round)")
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport
import Testing
import VPCModel
import VPCTransport

@testable import MetricsHelperMode

/// Agents that answer from a closure, and the number of agents that are asked at once.
final class ScriptedAgents: AgentSource {
  private struct State {
    var underWay = 0
    var most = 0
    var asked: [String] = []
  }
  private let state = Mutex(State())
  private let answer: @Sendable (AgentPod) async -> Result<AgentReading, AgentFailure>

  init(_ answer: @escaping @Sendable (AgentPod) async -> Result<AgentReading, AgentFailure>) { self.answer = answer }

  /// The largest number of agents that were asked at the same time.
  var most: Int { state.withLock { $0.most } }
  /// Their uids, in the order in which they were asked.
  var asked: [String] { state.withLock { $0.asked } }

  func agents() async -> [AgentPod] { [] }

  func read(_ agent: AgentPod, within timeout: Duration) async throws(AgentFailure) -> AgentReading {
    state.withLock { state in
      state.asked.append(agent.uid)
      state.underWay += 1
      state.most = max(state.most, state.underWay)
    }
    defer { state.withLock { $0.underWay -= 1 } }
    return try await answer(agent).get()
  }
}

@Suite struct AgentPodTests {
  private static func pod(_ name: String, _ node: String, isTerminating: Bool = false) -> AgentPod {
    AgentPod(uid: "uid-\(name)", name: name, node: node, address: nil, isTerminating: isTerminating)
  }

  /// The result does not depend on which agent the API server lists first.
  @Test func aTerminatingAgentIsNotCountedBesideItsSuccessor() {
    let pods = [
      Self.pod("a", "n1", isTerminating: true), Self.pod("b", "n1"), Self.pod("c", "n2"),
      Self.pod("d", "n2", isTerminating: true), Self.pod("e", "n3", isTerminating: true), Self.pod("f", ""),
      Self.pod("g", ""), Self.pod("h", "n4"), Self.pod("i", "n4"),
    ]
    for order in [pods, pods.reversed()] {
      #expect(AgentPod.onePerNode(order).map(\.name) == ["b", "c", "e", "f", "g", "h"])
    }
  }
}

@Suite struct ScrapeRoundTests {
  static func pods(_ count: Int) -> [AgentPod] {
    (0..<count).map { AgentPod(uid: "u\($0)", name: "aws-node-\($0)", node: "n\($0)", address: nil) }
  }

  private static func run(
    _ source: ScriptedAgents, _ agents: [AgentPod], width: Int = 8, time: TimeSource = .system,
    until deadline: ContinuousClock.Instant = .now.advanced(by: .seconds(600))
  ) async -> ScrapeRound.Result {
    var sums = ClusterSums(watchingSince: 0)
    return await ScrapeRound(source: source, width: width, timeout: .seconds(300), time: time)
      .run(agents, until: deadline, sums: &sums)
  }

  @Test func allAreReadSoManyAtATime() async {
    let source = ScriptedAgents { _ in
      await Task.yield()
      return .success(AgentReading(["eniAllocated": 2]))
    }
    let result = await Self.run(source, Self.pods(500), width: 7)
    #expect(result.answered == 500 && result.silent.isEmpty)
    #expect(result.values[ClusterMetric.index("eniAllocated")] == 1_000)
    #expect((1...7).contains(source.most) && Set(source.asked).count == 500)
  }

  @Test func aSilentAgentIsCountedAndNamedAndHoldsNobodyUp() async {
    let source = ScriptedAgents { agent in
      agent.uid == "u3" ? .failure(AgentFailure(.timedOut, "late")) : .success(AgentReading(["eniAllocated": 1]))
    }
    let result = await Self.run(source, Self.pods(10))
    #expect(result.answered == 9 && result.silent.map(\.agent.name) == ["aws-node-3"])
    #expect(result.silent.map(\.failure.code) == [.timedOut])
    #expect(result.values[ClusterMetric.index("eniAllocated")] == 9)
  }

  @Test func nobodyIsAskedAfterTheDeadline() async {
    let source = ScriptedAgents { _ in .success(AgentReading(["eniAllocated": 1])) }
    // A clock that advances by a second each time it is read.
    let looks = Mutex(0)
    let start = ContinuousClock.now
    let time = TimeSource(
      now: {
        start.advanced(
          by: .seconds(
            looks.withLock { looks in
              looks += 1; return looks
            }))
      },
      sleep: { _ in }, random: { 0 })
    let result = await Self.run(source, Self.pods(50), width: 1, time: time, until: start.advanced(by: .seconds(20)))
    #expect((10...20).contains(result.answered))
    #expect(result.silent.count == 50 - result.answered)
    #expect(result.silent.allSatisfy { $0.failure.code == .notReached })
    // The agents are asked in the given order.
    #expect(source.asked == (0..<result.answered).map { "u\($0)" })
  }

  @Test func noAgentsAreNoSums() async {
    let result = await Self.run(ScriptedAgents { _ in .success(AgentReading()) }, [])
    #expect(result.answered == 0 && result.silent.isEmpty && result.values.allSatisfy { $0 == nil })
  }

  @Test func silentAgentsAreToldOnceAndReadLast() {
    var silent = SilentAgents()
    let pods = Self.pods(4)
    func round(_ indexes: [Int], listed: [AgentPod]) -> (fell: [String], returned: [String]) {
      var result = ScrapeRound.Result()
      result.silent = indexes.map { (pods[$0], AgentFailure(.timedOut, "late")) }
      let change = silent.take(result, listed: listed)
      return (change.fell.map(\.agent.uid), change.returned.map(\.uid))
    }
    #expect(round([], listed: pods) == ([], []) && silent.order(pods) == pods)
    #expect(round([0, 1], listed: pods) == (["u0", "u1"], []))
    #expect(silent.order(pods).map(\.uid) == ["u2", "u3", "u0", "u1"])
    #expect(round([0, 2], listed: pods) == (["u2"], ["u1"]))
    // The agent that has been silent for longest comes last.
    #expect(silent.order(pods).map(\.uid) == ["u1", "u3", "u2", "u0"])
    // An agent that is gone from the list is neither silent nor back.
    #expect(round([2], listed: Array(pods[1...])) == ([], []))
    #expect(round([], listed: pods) == ([], ["u2"]))
  }
}

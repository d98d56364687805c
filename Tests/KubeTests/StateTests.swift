// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel
import VPCTransport

@testable import VPCKube

@Suite struct WatchStateTests {
  private static let unreachable = KubeError(.unreachable, request: "GET /x", detail: "")
  private static let gone = KubeError(.gone, request: "GET /x", status: 410, detail: "")

  @Test func failedListsWaitEverLonger() {
    var state = WatchState()
    let waits = (0..<8).map { _ in state.listFailed(Self.unreachable, random: 1) }
    #expect(waits == [1, 2, 4, 8, 16, 30, 30, 30].map { .seconds($0) })
    #expect(state.step == .list(isFresh: false))
    var jittered = WatchState()
    #expect(jittered.listFailed(Self.unreachable, random: 0) == .milliseconds(500))
  }

  @Test func refusalsAndWishesOfTheServerWaitLonger() {
    var state = WatchState()
    #expect(state.listFailed(KubeError(.forbidden, request: "", detail: ""), random: 1) == .seconds(5))
    let busy = KubeError(.tooManyRequests, request: "", detail: "", retryAfter: .seconds(40))
    #expect(state.openFailed(busy, random: 0) == .seconds(40))
  }

  @Test func watchesGoOnFromWhereTheyWere() {
    var state = WatchState()
    state.listed(version: "5")
    #expect(state.step == .watch(version: "5"))
    state.moved(to: "7")
    #expect(state.ended(.closed, lasted: .seconds(300), random: 1) == .zero)
    #expect(state.step == .watch(version: "7"))
    #expect(state.ended(.broken, lasted: .seconds(300), random: 1) == .seconds(1))
    #expect(state.step == .watch(version: "7"))
  }

  /// If a server ends every watch at once, the client slows down, and lists again after three watches.
  @Test func barrenWatchesAreSlowedAndThenListed() {
    var state = WatchState()
    state.listed(version: "5")
    #expect(state.ended(.closed, lasted: .zero, random: 1) == .seconds(1))
    #expect(state.ended(.closed, lasted: .zero, random: 1) == .seconds(2))
    #expect(state.step == .watch(version: "5"))
    #expect(state.ended(.broken, lasted: .zero, random: 1) == .seconds(4))
    #expect(state.step == .list(isFresh: true))
  }

  @Test func goneIsListedAtOnceButNotForEver() {
    var state = WatchState()
    state.listed(version: "5")
    #expect(state.openFailed(Self.gone, random: 1) == .zero)
    #expect(state.step == .list(isFresh: true))
    state.listed(version: "6")
    #expect(state.ended(.gone, lasted: .zero, random: 1) == .seconds(2))
    state.listed(version: "7")
    state.moved(to: "8")
    #expect(state.ended(.gone, lasted: .zero, random: 1) == .zero)
  }
}

@Suite struct LineSplitterTests {
  @Test func linesComeWholeHoweverTheyAreCut() {
    let text = Array("one\ntwo\n\nthree\nrest".utf8)
    for size in 1...text.count {
      var lines = LineSplitter(limit: 100)
      var seen: [String] = []
      for start in stride(from: 0, to: text.count, by: size) {
        for case .whole(let line) in lines.feed(Array(text[start..<min(start + size, text.count)])) {
          seen.append(String(decoding: line, as: UTF8.self))
        }
      }
      #expect(seen == ["one", "two", "three"])
      #expect(lines.hasRest)
    }
  }

  @Test func longLinesAreDroppedAndTold() {
    var lines = LineSplitter(limit: 4)
    #expect(lines.feed(Array("12345".utf8)).isEmpty)
    #expect(lines.feed(Array("6789\nabcd\n".utf8)) == [.tooLong, .whole(Array("abcd".utf8))])
  }
}

@Suite struct CNINodeTests {
  @Test(
    arguments: [
      ([], "[{\"name\":\"A\",\"value\":\"x\"},{\"name\":\"B\"}]"),
      (
        [CNINode.Feature(name: "A", value: "old"), .init(name: "C")],
        "[{\"name\":\"C\"},{\"name\":\"A\",\"value\":\"x\"},{\"name\":\"B\"}]"
      ),
      ([CNINode.Feature(name: "B"), .init(name: "A", value: "x")], nil),
    ] as [([CNINode.Feature], String?)])
  func featuresAreAddedAndOldValuesReplaced(_ there: [CNINode.Feature], _ patched: String?) throws {
    let node = try CNINode(["metadata": ["name": "n"], "spec": ["features": .array(there.map(\.json))]])
    let patch = node.patch(adding: [CNINode.Feature(name: "A", value: "x"), CNINode.Feature(name: "B")])
    #expect(patch?["spec"]?["features"]?.text == patched)
  }
}

@Suite struct ObjectTests {
  @Test func cordonIsTheTaintOfThatNameAndEffect() throws {
    func node(_ key: String, _ effect: String) throws -> KubeNode {
      try KubeNode([
        "metadata": ["name": "n"], "spec": ["taints": .array([["key": .string(key), "effect": .string(effect)]])],
      ])
    }
    #expect(try node("node.kubernetes.io/unschedulable", "NoSchedule").isUnschedulable)
    #expect(try !node("node.kubernetes.io/unschedulable", "NoExecute").isUnschedulable)
    #expect(try !node("other", "NoSchedule").isUnschedulable)
  }

  @Test(
    arguments: [
      (["metadata": ["name": "z"]], "ENIConfig z: spec.subnet is missing"),
      (
        ["metadata": ["name": "z"], "spec": ["subnet": "vpc-1"]],
        "ENIConfig z: spec.subnet is \"vpc-1\" and not a subnet's id"
      ),
      (
        ["metadata": ["name": "z"], "spec": ["subnet": "subnet-1", "securityGroups": "sg-1"]],
        "ENIConfig z: spec.securityGroups is a string and not a list"
      ),
      (
        ["metadata": ["name": "z"], "spec": ["subnet": "subnet-1", "securityGroups": .array([7])]],
        "ENIConfig z: spec.securityGroups has 7, which is not a group's id"
      ),
      (["spec": [:]], "an object: metadata.name is missing"),
    ] as [(JSONValue, String)])
  func wrongENIConfigsNameTheField(_ json: JSONValue, _ message: String) {
    #expect(throws: KubeObjectError.self) { try ENIConfig(json) }
    do {
      _ = try ENIConfig(json)
    } catch {
      #expect("\(error)" == message)
    }
  }
}

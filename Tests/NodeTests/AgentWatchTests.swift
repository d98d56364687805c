// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing
import VPCSystem

@testable import NodeMode

/// What the entrypoint decides, event by event.
@Suite struct AgentWatchTests {
  static let copied: [AgentWatch.Action] = [
    .say("Successfully copied CNI plugin binary and config file."), .say("Foregrounding IPAM daemon ..."),
  ]

  static func serving() -> AgentWatch {
    var watch = AgentWatch()
    _ = watch.handle(.probed(isServing: true), at: .milliseconds(300))
    _ = watch.handle(.conflistPlaced(true), at: .milliseconds(301))
    return watch
  }

  @Test func conflistComesWhenTheAgentServesAndNotBefore() {
    var watch = AgentWatch()
    #expect(watch.handle(.clock, at: .zero) == [.probe])
    #expect(watch.handle(.probed(isServing: false), at: .milliseconds(1)) == [])
    #expect(watch.nextLook == .milliseconds(51))
    #expect(watch.handle(.clock, at: .milliseconds(50)) == [], "not yet")
    #expect(watch.handle(.clock, at: .milliseconds(51)) == [.probe])
    #expect(
      watch.handle(.probed(isServing: true), at: .milliseconds(52)) == [
        .say("Copying config file ... "), .placeConflist,
      ])
    #expect(watch.handle(.conflistPlaced(true), at: .milliseconds(53)) == Self.copied)
    #expect(watch.nextLook == nil, "an entrypoint whose agent serves wakes up for nothing")
  }

  /// The agent does not serve for an hour. The entrypoint probes it at least once a second, logs rarely, never stops.
  @Test func waitingHasNoEndAndFewWords() {
    var watch = AgentWatch()
    var now = Duration.zero
    var probes = 0
    var words: [Duration] = []
    while now < .seconds(3600) {
      #expect(watch.handle(.clock, at: now) == [.probe])
      probes += 1
      for action in watch.handle(.probed(isServing: false), at: now) {
        #expect(action == .say("Retrying waiting for IPAM-D"))
        words.append(now)
      }
      guard let next = watch.nextLook else { return #expect(Bool(false), "it must look again") }
      #expect(next - now <= .seconds(1))
      now = next
    }
    #expect((3600...3700).contains(probes))
    #expect(words.count < 130 && words[0] <= .seconds(3))
  }

  @Test func conflistThatCannotBePlacedIsTriedAgain() {
    var watch = AgentWatch()
    _ = watch.handle(.probed(isServing: true), at: .seconds(1))
    #expect(watch.handle(.conflistPlaced(false), at: .seconds(1)) == [])
    #expect(watch.handle(.clock, at: .seconds(5)) == [])
    #expect(watch.handle(.clock, at: .seconds(6)) == [.placeConflist])
    #expect(watch.handle(.conflistPlaced(true), at: .seconds(6)) == Self.copied)
  }

  @Test func terminationIsPassedOnOnceAndThenForced() {
    for var watch in [AgentWatch(), Self.serving()] {
      #expect(watch.handle(.terminationAsked, at: .seconds(10)) == [.terminateAgent])
      #expect(watch.handle(.probed(isServing: true), at: .seconds(10)) == [], "no conflist while it stops")
      #expect(watch.handle(.clock, at: .seconds(17)) == [])
      #expect(watch.handle(.clock, at: .seconds(18)).last == .killAgent)
      #expect(watch.handle(.agentEnded(.signalled(SIGKILL)), at: .seconds(18)) == [.exit(137)])
    }
  }

  @Test func secondTerminationKillsAtOnce() {
    var watch = Self.serving()
    _ = watch.handle(.terminationAsked, at: .seconds(10))
    #expect(watch.handle(.terminationAsked, at: .seconds(11)) == [.killAgent])
    #expect(watch.nextLook == nil)
  }

  @Test(arguments: [0, 1, 2, 64, 255] as [Int32])
  func statusIsTheAgents(status: Int32) {
    for var watch in [AgentWatch(), Self.serving()] {
      #expect(watch.handle(.agentEnded(.exited(status: status)), at: .seconds(1)) == [.exit(status)])
      #expect(watch.handle(.agentEnded(.signalled(SIGSEGV)), at: .seconds(1)) == [.exit(139)])
    }
  }
}

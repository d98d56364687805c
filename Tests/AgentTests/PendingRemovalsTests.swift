// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCModel

@testable import AgentMode

@Suite struct PendingRemovalsTests {
  let address = IPAddress(ipv4: 0x0a00_0009)
  let other = IPAddress(ipv4: 0x0a00_000a)

  /// What happened, in order.
  final class Story: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var told: [String] { lines.withLock { $0 } }
  }

  @Test func anAddWaitsForTheRemovalOfItsAddressAndForNoOther() async {
    let removals = PendingRemovals()
    let story = Story()
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    removals.start(address) {
      for await _ in gate {}
      story.add("removed")
    }
    await removals.settled(other)
    story.add("other goes on")
    let waiting = Task {
      await removals.settled(address)
      story.add("same goes on")
    }
    opening.finish()
    await waiting.value
    #expect(story.told == ["other goes on", "removed", "same goes on"])
    await removals.settled(address)
  }

  @Test func removalsOfOneAddressFollowEachOther() async {
    let removals = PendingRemovals()
    let story = Story()
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    removals.start(address) {
      for await _ in gate {}
      story.add("first")
    }
    removals.start(address) { story.add("second") }
    opening.finish()
    await removals.settled(address)
    #expect(story.told == ["first", "second"])
  }
}

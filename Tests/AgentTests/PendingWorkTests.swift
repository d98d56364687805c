// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing

@testable import AgentMode

/// What is collected for the next look of the repair.
@Suite struct PendingWorkTests {
  @Test func theFirstNoticeCountsUntilTheWorkIsTaken() async {
    let work = PendingWork()
    let first = ContinuousClock.now
    work.add(.everything)
    work.add(.nothing, noticed: first)
    work.add(.nothing, noticed: first + .seconds(5))
    let taken = await work.next()
    #expect(taken?.noticed == first)
    #expect(taken?.scope == .everything)
    work.add(.nothing)
    let later = await work.next()
    #expect(later?.noticed == nil && later?.scope == .nothing)
  }

  /// The periodic look is due while a change is being gathered. It would repair the change without knowing when or by
  /// whom it was made.
  @Test func aLookWaitsForWhatGathers() async throws {
    let work = PendingWork()
    let noticed = ContinuousClock.now
    work.gathers()
    work.add(.everything)
    let isTaken = Atomic(false)
    async let taken = {
      let taken = await work.next()
      isTaken.store(true, ordering: .releasing)
      return taken
    }()
    for _ in 0..<100 { await Task.yield() }
    #expect(isTaken.load(ordering: .acquiring) == false)
    work.add(.afterWiring, noticed: noticed)
    for _ in 0..<100 { await Task.yield() }
    #expect(isTaken.load(ordering: .acquiring) == false, "the addition is not the end")
    work.gathered()
    let first = await taken
    #expect(first?.noticed == noticed && first?.scope == .everything)
  }

  /// Changes arrive without end. A look waits for the changes being gathered when it is due, not for later ones.
  @Test func changesWithoutEndHoldNoLookUp() async {
    let work = PendingWork()
    work.gathers()
    work.add(.everything)
    async let taken = work.next()
    for _ in 0..<100 { await Task.yield() }
    work.gathers()
    work.gathered()
    #expect(await taken?.scope == .everything)
    work.gathered()
  }
}

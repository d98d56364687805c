// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import AgentMode

/// What gathers for the repair's next look.
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
}

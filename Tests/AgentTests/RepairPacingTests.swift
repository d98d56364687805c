// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import AgentMode

/// How often one object is repaired: at once, then less and less often, then at once again.
@Suite struct RepairPacingTests {
  private let start = ContinuousClock.now

  /// A pacing that a test can query within an expectation.
  private final class Paced {
    var value = RepairPacing()
    func admit(_ subject: String, at now: ContinuousClock.Instant) -> Bool { value.admit(subject, at: now) }
    func isNews(_ subject: String) -> Bool { value.isNews(subject) }
    func isNews(_ subject: String, counting now: ContinuousClock.Instant) -> Bool {
      value.isNews(subject, counting: now)
    }
    func held(at now: ContinuousClock.Instant) -> [String] { value.held(at: now) }
    func due(_ subject: String) -> ContinuousClock.Instant? { value.due(subject) }
  }

  private func at(_ seconds: Double) -> ContinuousClock.Instant { start.advanced(by: .seconds(seconds)) }

  @Test func threeTimesAtOnceThenEverMoreSlowlyUpToAMinute() {
    let pacing = Paced()
    // Another program undoes the repair ten times a second for ten minutes.
    let admitted = (0..<6000).filter { tenth in
      pacing.admit("rule 512", at: start.advanced(by: .milliseconds(tenth * 100)))
    }
    #expect(admitted.prefix(9) == [0, 1, 2, 12, 32, 72, 152, 312, 632])
    let gaps = zip(admitted.dropFirst(8), admitted.dropFirst(9)).map { $1 - $0 }
    #expect(!gaps.isEmpty && gaps.allSatisfy { $0 == 600 }, "never given up")
  }

  @Test func peaceMakesItFreeAgain() {
    let pacing = Paced()
    for _ in 0..<3 { #expect(pacing.admit("route", at: at(0))) }
    #expect(!pacing.admit("route", at: at(0.5)))
    #expect(pacing.due("route") == at(1))
    #expect(pacing.admit("route", at: at(1)))
    #expect(pacing.held(at: at(100)) == ["route"])
    #expect(pacing.held(at: at(121)) == [])
    for _ in 0..<3 { #expect(pacing.admit("route", at: at(121))) }
    #expect(!pacing.admit("route", at: at(121)))
  }

  @Test func oneObjectsFightIsNoOthers() {
    let pacing = Paced()
    for _ in 0..<4 { _ = pacing.admit("rule", at: at(0)) }
    #expect(!pacing.admit("rule", at: at(0.1)) && pacing.admit("route", at: at(0.1)))
    #expect(pacing.due("route") == nil)
  }

  @Test func aFightIsToldOnce() {
    let pacing = Paced()
    for second in 0..<3 {
      #expect(pacing.admit("rule", at: at(Double(second))))
      #expect(!pacing.isNews("rule"))
    }
    #expect(pacing.admit("rule", at: at(10)) && pacing.isNews("rule") && !pacing.isNews("rule"))
    #expect(pacing.admit("rule", at: at(20)) && !pacing.isNews("rule"))
    // The next conflict, after two minutes without one, is news.
    for second in 200..<203 { #expect(pacing.admit("rule", at: at(Double(second))) && !pacing.isNews("rule")) }
    #expect(pacing.admit("rule", at: at(210)) && pacing.isNews("rule"))
    #expect(pacing.isNews("failed: x", counting: at(0)) && !pacing.isNews("failed: x", counting: at(1)))
  }

  @Test func aFlushOfAFullNodeIsMendedAtOnce() {
    let pacing = Paced()
    #expect((0..<737).allSatisfy { pacing.admit("route \($0)", at: at(0)) })
    for number in 0..<20_000 { _ = pacing.admit("flood \(number)", at: at(1)) }
    #expect(pacing.held(at: at(2)).isEmpty)
  }

  /// A refused look sets a time for another look, once.
  @Test func whatIsHeldComesBackWhenItIsDue() {
    var state = RepairState()
    state.hold(.afterWiring, until: at(4))
    state.hold(.nothing, until: at(8))
    let wakes = [state.nextWake(), state.nextWake()]
    #expect(wakes == [at(4), nil])
    let early = state.takeHeld(at: at(1))
    state.hold(.nothing, until: at(2))
    let sooner = state.nextWake()
    #expect(early == .nothing && sooner == at(2))
    let taken = [state.takeHeld(at: at(2)), state.takeHeld(at: at(9))]
    #expect(taken == [.afterWiring, .nothing])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Synchronization
import Testing
import VPCModel

@testable import AgentMode

/// The actor around the pool: the order of persisting and answering, cancellation, many calls at once, shutdown.
@Suite struct AddressPoolTests {
  @Test func answersStandInTheCheckpoint() async throws {
    let fixture = try await PoolFixture(FakeENIs(addresses: 3)).started()
    let answer = await fixture.add("a")
    #expect(fixture.written == [PoolFixture.key("a"): try #require(answer.address)])
    #expect(await fixture.add("a").address == answer.address, "the same attachment has the same address")
    #expect(await fixture.delete("a").address == answer.address)
    #expect(fixture.written == [:])
    #expect(await fixture.delete("a") == .unknown)
  }

  @Test func startIsWrittenDown() async throws {
    let enis = FakeENIs(addresses: 2)
    let address = try #require(enis.addresses.min())
    let known = CheckpointAllocation(
      key: PoolFixture.key("old"), address: address, unixNanoseconds: 5, pod: PodName(namespace: "n", name: "old"))
    let stale = CheckpointAllocation(
      key: PoolFixture.key("stale"), address: IPAddress(ipv4: 0x0a63_0001), unixNanoseconds: 5,
      pod: PodName(namespace: "n", name: "stale"))
    let fixture = try await PoolFixture(enis).started(Checkpoint(allocations: [known, stale]))
    #expect(fixture.written[known.key] == address)
    #expect(await fixture.add("new").address != address)
  }

  @Test func unwritableCheckpointGivesNothing() async throws {
    let fixture = try await PoolFixture(FakeENIs(slots: 1, addresses: 1)) { $0.instanceENILimit = 1 }.started()
    fixture.folder.remove()
    let cause = try #require(await fixture.add("a").cause)
    guard case .checkpointNotWritten(let why) = cause else {
      Issue.record("another cause: \(cause)")
      return
    }
    #expect(why.contains("ipam.json") && why.contains("no such file"))
    #expect(await fixture.pool.counts.free == 1, "the address is free again, without a cooldown")
    fixture.folder.make()
    let address = await fixture.add("b").address
    #expect(address != nil && fixture.written[PoolFixture.key("b")] == address)
  }

  @Test func unwritableCheckpointDoesNotHoldADelete() async throws {
    let fixture = try await PoolFixture(FakeENIs(addresses: 1)).started()
    let address = await fixture.add("a").address
    fixture.folder.remove()
    #expect(await fixture.delete("a").address == address)
    #expect(await fixture.pool.counts.assigned == 0)
  }

  @Test func unwritableCheckpointWithManyWaiting() async throws {
    let enis = FakeENIs(slots: 8)
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    async let answers = withTaskGroup(of: AddAnswer.self) { group in
      for number in 0..<6 { group.addTask { await fixture.add("pod-\(number)") } }
      return await group.reduce(into: []) { $0.append($1) }
    }
    try await eventually("six wait") { await fixture.pool.counts.waiting == 6 }
    fixture.folder.remove()
    enis.letGo(.assign)
    for answer in await answers {
      guard case .failed(.checkpointNotWritten) = answer else {
        Issue.record("not withheld: \(answer)")
        continue
      }
    }
    #expect(await fixture.pool.counts.assigned == 0)
  }

  @Test func growthServesWhoWaits() async throws {
    let fixture = try await PoolFixture(FakeENIs()).started()
    var seen: Set<IPAddress> = []
    for number in 0..<12 { seen.insert(try #require(await fixture.add("pod-\(number)").address)) }
    #expect(seen.count == 12 && seen == fixture.enis.addresses)
    #expect(fixture.enis.enis.count == 3 && fixture.enis.refusals == [])
    #expect(await fixture.add("one-too-many").cause == .eniLimitReached(attached: 3, limit: 3))
  }

  @Test func failedGrowthIsTriedAgain() async throws {
    let enis = FakeENIs()
    enis.fail(.assign, ActionFailure(.throttled(call: "AssignPrivateIpAddresses")))
    enis.fail(.assign, ActionFailure(.other("no answer"), mayBeDone: true))
    let fixture = try await PoolFixture(enis) { $0.instanceENILimit = 1 }.started()
    #expect(await fixture.add("a").address != nil)
    #expect(enis.refusals == [])
  }

  @Test func cancelledAddLeavesNothing() async throws {
    let enis = FakeENIs()
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    let adding = Task { await fixture.add("a") }
    await enis.arrival(of: .assign)
    adding.cancel()
    #expect(await adding.value == .failed(.cancelled))
    enis.letGo(.assign)
    try await eventually("nothing under way") { await fixture.pool.counts.actions == 0 }
    let counts = await fixture.pool.counts
    #expect(counts.waiting == 0 && counts.assigned == 0 && fixture.written == [:])
  }

  @Test func cancelledBeforeItBegins() async throws {
    let enis = FakeENIs()
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    let gate = AsyncStream<Never>.makeStream()
    let adding = Task {
      for await _ in gate.stream {}  // ends when the task is cancelled
      return await fixture.add("a")
    }
    adding.cancel()
    #expect(await adding.value == .failed(.cancelled))
    enis.letGo(.assign)
  }

  @Test func waitEndsWithItsDeadline() async throws {
    let enis = FakeENIs()
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    let began = ContinuousClock.now
    let cause = await fixture.add("a", timeout: .milliseconds(50)).cause
    let took = began.duration(to: .now)
    guard case .deadline(let waited, _) = cause else {
      Issue.record("another end: \(String(describing: cause))")
      return
    }
    // The deadline is the caller's: the time before the pool received the call does not count as waiting.
    #expect(took >= .milliseconds(50) && waited <= took)
    enis.letGo(.assign)
  }

  /// EC2 has assigned the address; the kernel is asked to route it, and no pod gets it before that.
  @Test func aPodGetsAnAddressOnceTheKernelRoutesIt() async throws {
    let enis = FakeENIs(eniLimit: 1, slots: 1)
    enis.hold(.route)
    let fixture = try await PoolFixture(enis).started()
    async let adding = fixture.add("a")
    await enis.arrival(of: .route)
    let address = try #require(enis.addresses.first)
    #expect(enis.wanted?[FakeENIs.primary]?.cidrs == [IPPrefix(single: address)])
    #expect(await fixture.pool.counts.assigned == 0 && fixture.written.isEmpty)
    enis.letGo(.route)
    #expect(await adding.address == address)
  }

  /// A pod elsewhere uses it: it is not given out, and EC2 is asked.
  @Test func anAddressThatTheKernelRefusesIsNotGivenOut() async throws {
    let enis = FakeENIs(eniLimit: 1, slots: 1)
    enis.fail(.route, ActionFailure(.other("a pod uses it")))
    enis.hold(.list)
    let fixture = try await PoolFixture(enis).started()
    async let adding = fixture.add("a")
    await enis.arrival(of: .list)
    #expect(await fixture.pool.counts.assigned == 0)
    enis.letGo(.list)
    #expect(await adding.address == enis.addresses.first, "EC2 has confirmed it")
  }

  @Test func cooldownEndsByItself() async throws {
    let enis = FakeENIs(eniLimit: 1, slots: 1, addresses: 1)
    let fixture = try await PoolFixture(enis) { $0.cooldown = .milliseconds(60) }.started()
    let first = await fixture.add("a").address
    let began = ContinuousClock.now
    _ = await fixture.delete("a")
    #expect(await fixture.add("b").address == first, "the pool wakes up when the address has rested")
    #expect(began.duration(to: .now) >= .milliseconds(60))
  }

  @Test func deleteWithdrawsAnAddThatWaits() async throws {
    let enis = FakeENIs()
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    async let adding = fixture.add("a")
    try await eventually("the ADD waits") { await fixture.pool.counts.waiting == 1 }
    #expect(await fixture.delete("a") == .unknown)
    #expect(await adding == .failed(.cancelled))
    enis.letGo(.assign)
  }

  // MARK: shutdown

  @Test func shutDownAnswersAndWaits() async throws {
    let enis = FakeENIs()
    enis.hold(.assign)
    let fixture = try await PoolFixture(enis).started()
    async let adding = fixture.add("a")
    await enis.arrival(of: .assign)
    async let down: Void = fixture.pool.shutDown(within: .seconds(60))
    #expect(await adding == .failed(.shuttingDown))
    enis.letGo(.assign)
    await down
    #expect(await fixture.pool.counts.actions == 0, "what was under way has ended")
    #expect(await fixture.add("b").address != nil, "what came in is given out until the socket closes")
    for number in 0..<12 where await fixture.add("c\(number)").cause == .shuttingDown { return }
    Issue.record("the pool grew after its shutdown")
  }

  @Test(arguments: [false, true])
  func shutDownKeepsItsLimit(stuck: Bool) async throws {
    let enis = FakeENIs()
    enis.hold(.assign, stuck: stuck)
    let fixture = try await PoolFixture(enis).started()
    async let adding = fixture.add("a")
    await enis.arrival(of: .assign)
    let began = ContinuousClock.now
    await fixture.pool.shutDown(within: .milliseconds(100))
    #expect(began.duration(to: .now) < .seconds(50), "an operation that never ends does not hold the stop")
    #expect(await adding == .failed(.shuttingDown))
    enis.letGo(.assign)
  }

  @Test func shutDownOfAnIdlePool() async throws {
    let fixture = try await PoolFixture(FakeENIs(addresses: 4)).started()
    await fixture.pool.shutDown(within: .seconds(60))
    #expect(await fixture.pool.counts.waiting == 0)
  }

  // MARK: many calls at once

  /// Which caller has which address, as the callers see it.
  final class Holders: Sendable {
    private let names = Mutex<[IPAddress: String]>([:])

    /// - Returns: the caller that already has it.
    func take(_ address: IPAddress, by name: String) -> String? {
      names.withLock { $0.updateValue(name, forKey: address) }
    }

    func leave(_ address: IPAddress) { names.withLock { $0[address] = nil } }
  }

  @Test(arguments: [1, 2, 3] as [UInt64])
  func manyAtOnce(seed: UInt64) async throws {
    let fixture = try await PoolFixture(FakeENIs(eniLimit: 4, slots: 5)).started()
    let holders = Holders()
    await withTaskGroup(of: Void.self) { group in
      for number in 0..<60 {
        group.addTask {
          var dice = SplitMix64(seed: seed &* 1000 &+ UInt64(number))
          for round in 0..<4 {
            let name = "pod-\(number)-\(round)"
            // A short timeout and no timeout at all stand for callers that give up.
            let timeout: Duration = dice.next() % 5 == 0 ? .zero : .seconds(30)
            let adding = Task { await fixture.add(name, timeout: timeout) }
            if dice.next() % 7 == 0 { adding.cancel() }
            if let address = await adding.value.address {
              let other = holders.take(address, by: name)
              #expect(other == nil, "\(address) was given to \(name) while \(other ?? "") has it")
              #expect(fixture.written[PoolFixture.key(name)] == address)
              holders.leave(address)
            }
            _ = await fixture.delete(name)
            #expect(await fixture.delete(name) == .unknown)
          }
        }
      }
    }
    try await eventually("nothing under way") { await fixture.pool.counts.actions == 0 }
    let counts = await fixture.pool.counts
    #expect(counts.assigned == 0 && counts.waiting == 0 && counts.stray == 0)
    #expect(counts.free == counts.total && counts.total == fixture.enis.addresses.count)
    #expect(fixture.written == [:] && fixture.enis.refusals == [])
  }
}

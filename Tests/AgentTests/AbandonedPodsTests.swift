// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import AgentMode
@testable import VPCModel

/// Which pods are gone without a DEL, and what the agent takes back from them.
@Suite struct AbandonedPodsTests {
  static let start = ContinuousClock.now

  static func assignment(_ name: String, _ last: UInt32, since: Int64 = 1) -> Assignment {
    Assignment(
      key: PoolFixture.key(name), pod: PodName(namespace: "default", name: name),
      address: IPAddress(ipv4: 0x0a00_0000 + last),
      eni: nil, device: 0, card: 0, routeTable: .main, assignedUnixNanoseconds: since, interfacesCount: 1, isNew: false)
  }

  /// Looks at each of these seconds, when the given pods are missing; returns which pods are given up at each second.
  private func looks(_ seconds: [Int], _ missing: (Int) -> [Assignment]) -> [Int: Set<String>] {
    var evidence = AbandonmentEvidence()
    var gone: [Int: Set<String>] = [:]
    for second in seconds {
      let found = evidence.look(missing(second), at: Self.start + .seconds(second))
      if !found.isEmpty { gone[second] = Set(found.map(\.pod.name)) }
    }
    return gone
  }

  @Test func whatIsMissingInEveryLookForLongEnoughIsGone() {
    let pod = Self.assignment("a", 7)
    #expect(looks([0, 15, 30, 45, 60]) { _ in [pod] } == [45: ["a"]])
    // The time is long enough, but there is only one later look: the machine slept in between.
    #expect(looks([0, 500]) { _ in [pod] } == [:])
    // Many looks within a few seconds.
    #expect(looks([0, 1, 2, 3, 4, 5]) { _ in [pod] } == [:])
  }

  @Test func whatIsSeenOnceCountsAnew() {
    let pod = Self.assignment("a", 7)
    let other = Self.assignment("b", 8)
    let gone = looks([0, 15, 30, 45, 60, 75, 90]) { $0 == 30 ? [other] : [pod, other] }
    #expect(gone == [45: ["b"], 90: ["a"]])
    // The same attachment counts as another one if it has another address or was assigned again.
    #expect(looks([0, 15, 30, 45]) { [Self.assignment("a", $0 < 30 ? 7 : 9)] } == [:])
    #expect(looks([0, 15, 30, 45]) { [Self.assignment("a", 7, since: $0 < 30 ? 1 : 2)] } == [:])
  }

  @Test func anAddressThatWasAskedForLatelyStays() async throws {
    let fixture = try await PoolFixture(FakeENIs(addresses: 3)).started()
    guard case .assigned(let first) = await fixture.add("a") else {
      Issue.record("no address")
      return
    }
    #expect(await fixture.pool.reclaim(first, quiet: .seconds(45)) == nil, "an ADD was answered a moment ago")
    #expect(fixture.written[first.key] == first.address)
    var another = Self.assignment("a", 7)
    #expect(await fixture.pool.reclaim(another, quiet: .zero) == nil, "another address than it has")
    another = Self.assignment("b", 7)
    #expect(await fixture.pool.reclaim(another, quiet: .zero) == nil, "nobody has it")
    #expect(await fixture.pool.reclaim(first, quiet: .zero)?.address == first.address)
    #expect(fixture.written[first.key] == nil)
    #expect(await fixture.delete("a") == .unknown, "the DEL that comes after all")
  }

  /// A repeated ADD is in progress: the plugin may be creating the interface.
  @Test func aRepeatedADDIsUnderWay() throws {
    var pool = Pool(settings: PoolSettings(instanceENILimit: 1, slotsPerENI: 3), seed: 1)
    let time = { (seconds: Int64) in
      PoolTime(instant: PoolInstant(nanoseconds: seconds * 1_000_000_000), unixNanoseconds: seconds)
    }
    let eni = ENIObservation(
      id: try #require(ENIID("eni-0")), device: 0, subnet: try #require(SubnetID("subnet-0")),
      cidrs: [IPPrefix(single: IPAddress(ipv4: 0x0a00_0107))], isWired: true)
    _ = pool.handle(.started(PoolStart(enis: [eni])), now: time(1))
    func add(_ second: Int64) {
      let request = AddRequest(
        waiter: WaiterID(UInt64(second)), key: PoolFixture.key("a"), pod: PodName(namespace: "n", name: "a"),
        deadline: time(1000).instant)
      _ = pool.handle(.add(request), now: time(second))
    }
    add(10)
    guard let given = pool.assignment(of: PoolFixture.key("a")) else {
      Issue.record("no address")
      return
    }
    #expect(!pool.isQuiet(given, for: .seconds(45), now: time(54).instant))
    #expect(pool.isQuiet(given, for: .seconds(45), now: time(55).instant))
    add(50)
    #expect(!pool.isQuiet(given, for: .seconds(45), now: time(94).instant))
    #expect(pool.isQuiet(given, for: .seconds(45), now: time(95).instant))
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The checkpoint document follows the pool: it takes the changes, or all entries when the changes are unknown.
/// `PoolWalkTests` shows through `PoolRig` that it is correct after every event of a long life.
@Suite struct PoolCheckpointTests {
  static let time = PoolTime(
    instant: PoolInstant(sinceBoot: .seconds(1000)), unixNanoseconds: 1_700_000_000_000_000_000)

  /// A node with 500 free addresses and no cooldown.
  static func pool() throws -> Pool {
    var pool = Pool(
      settings: PoolSettings(instanceENILimit: 1, slotsPerENI: 500, maxPods: 500, warmENITarget: 0, cooldown: .zero),
      seed: 1)
    let eni = ENIObservation(
      id: try #require(ENIID("eni-1")), device: 0, subnet: try #require(SubnetID("subnet-1")),
      cidrs: (1...500).map { IPPrefix(single: IPAddress(ipv4: 0x0a00_0000 + UInt32($0))) }, isWired: true)
    _ = pool.handle(.started(PoolStart(enis: [eni])), now: time)
    return pool
  }

  static func key(_ number: Int) -> AttachmentKey {
    AttachmentKey(networkName: "aws-cni", containerID: "c\(number)", ifName: "eth0")
  }

  static func add(_ numbers: Range<Int>, to pool: inout Pool) {
    for number in numbers {
      let request = AddRequest(
        waiter: WaiterID(UInt64(number)), key: key(number), pod: PodName(namespace: "default", name: "p\(number)"),
        deadline: time.instant + .seconds(20))
      _ = pool.handle(.add(request), now: time)
    }
  }

  static func keys(_ document: inout CheckpointDocument) -> [AttachmentKey] {
    CheckpointReader.read(document.withBytes(cooldowns: []) { $0 }).checkpoint.allocations.map(\.key)
  }

  @Test func aNewDocumentGetsEverything() throws {
    var pool = try Self.pool()
    var first = CheckpointDocument()
    pool.update(&first)
    #expect(first.count == 0)
    Self.add(0..<5, to: &pool)
    pool.update(&first)
    var second = CheckpointDocument()
    pool.update(&second)
    #expect(Set(Self.keys(&first)) == Set(Self.keys(&second)) && second.count == 5)
  }

  @Test func changesAreEnteredInTheirOrder() throws {
    var pool = try Self.pool()
    var document = CheckpointDocument()
    pool.update(&document)
    Self.add(0..<4, to: &pool)
    pool.update(&document)
    _ = pool.handle(.delete(Self.key(0), WaiterID(1000)), now: Self.time)
    _ = pool.handle(.delete(Self.key(2), WaiterID(1001)), now: Self.time)
    Self.add(2..<3, to: &pool)
    pool.update(&document)
    #expect(Self.keys(&document) == [1, 3, 2].map(Self.key))
  }

  @Test(arguments: [255, 256, 257, 500]) func moreChangesThanAreNotedAreAllEntered(count: Int) throws {
    var pool = try Self.pool()
    var document = CheckpointDocument()
    pool.update(&document)
    Self.add(0..<count, to: &pool)
    pool.update(&document)
    #expect(Set(Self.keys(&document)) == Set((0..<count).map(Self.key)))
    _ = pool.handle(.delete(Self.key(7), WaiterID(1000)), now: Self.time)
    pool.update(&document)
    #expect(document.count == count - 1 && !Self.keys(&document).contains(Self.key(7)))
  }
}

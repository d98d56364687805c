// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

/// The wall clock can be set between two runs of the agent. Cooldowns and returns still last as long as they should.
@Suite struct CheckpointClockTests {
  static let saved = PoolTime(
    instant: PoolInstant(sinceBoot: .seconds(500)), unixNanoseconds: 1_700_000_000_000_000_000)
  static let second: Int64 = 1_000_000_000

  static func checkpoint(bootID: String? = "boot") throws -> Checkpoint {
    Checkpoint(
      allocations: [
        CheckpointAllocation(
          key: AttachmentKey(networkName: "n", containerID: "c", ifName: "eth0"), address: IPAddress(ipv4: 0x0a00_0001),
          unixNanoseconds: saved.unixNanoseconds - second, pod: PodName(namespace: "a", name: "b"))
      ],
      cooldowns: [
        CheckpointCooldown(
          address: IPAddress(ipv4: 0x0a00_0002), untilUnixNanoseconds: saved.unixNanoseconds + 20 * second)
      ],
      returns: [
        CheckpointReturn(
          .cidr(IPPrefix(single: IPAddress(ipv4: 0x0a00_0003)), of: nil),
          untilUnixNanoseconds: saved.unixNanoseconds + 40 * second),
        CheckpointReturn(.eni(try #require(ENIID("eni-1")))),
      ], clock: bootID.map { CheckpointClock(bootID: $0, time: saved) })
  }

  static func translated(_ checkpoint: Checkpoint, step: Int64, after: Int64 = 5) -> (Checkpoint, PoolTime) {
    let now = PoolTime(
      instant: saved.instant + .seconds(after), unixNanoseconds: saved.unixNanoseconds + (after + step) * second)
    return (checkpoint.translated(to: now, bootID: "boot", rest: .seconds(30), lag: .seconds(60)), now)
  }

  @Test(arguments: [-86_400, -31, 0, 31, 3600, 400 * 86_400] as [Int64]) func aStepChangesNothing(_ step: Int64) throws
  {
    let (result, now) = Self.translated(try Self.checkpoint(), step: step)
    #expect(result.cooldowns.map { ($0.untilUnixNanoseconds - now.unixNanoseconds) / Self.second } == [15])
    #expect(result.returns[0].untilUnixNanoseconds.map { ($0 - now.unixNanoseconds) / Self.second } == 35)
    #expect(result.returns[1].untilUnixNanoseconds == nil)
    #expect((now.unixNanoseconds - result.allocations[0].unixNanoseconds) / Self.second == 6)
  }

  /// The wall clock always runs a little fast or slow: the stored times stay unchanged.
  @Test func slewingIsNoStep() throws {
    let checkpoint = try Self.checkpoint()
    let now = PoolTime(
      instant: Self.saved.instant + .seconds(5),
      unixNanoseconds: Self.saved.unixNanoseconds + 5 * Self.second + 900_000_000)
    let result = checkpoint.translated(to: now, bootID: "boot", rest: .seconds(30), lag: .seconds(60))
    #expect(result.allocations == checkpoint.allocations && result.cooldowns == checkpoint.cooldowns)
  }

  /// Nobody knows how long ago the file was written: every wait starts again with its full length.
  @Test(arguments: [nil, "another boot"] as [String?]) func anUnknownTimeIsNoTime(_ bootID: String?) throws {
    let (result, now) = Self.translated(try Self.checkpoint(bootID: bootID), step: 3600)
    #expect(result.cooldowns.map { ($0.untilUnixNanoseconds - now.unixNanoseconds) / Self.second } == [30])
    #expect(result.returns[0].untilUnixNanoseconds.map { ($0 - now.unixNanoseconds) / Self.second } == 60)
    #expect(result.returns[1].untilUnixNanoseconds == nil, "what was not confirmed stays so")
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux
import VPCModel

@testable import AgentMode

/// Which pods are alive after a restart, judged by the checkpoint and the kernel together.
@Suite struct RestorationTests {
  static let address = IPAddress(ipv4: 0x0a00_0014)
  static let other = IPAddress(ipv4: 0x0a00_0015)
  static let pod = PodName(namespace: "default", name: "web-0")
  static let suffix = HostVethName.suffix(namespace: "default", pod: "web-0")
  static let now: Int64 = 1_700_000_000_000_000_000

  static func entry(
    _ address: IPAddress = address, container: String = "c1", pod: PodName = pod, at time: Int64 = 1
  ) -> CheckpointAllocation {
    CheckpointAllocation(key: PoolFixture.key(container), address: address, unixNanoseconds: time, pod: pod)
  }

  static func restore(
    _ allocations: [CheckpointAllocation], cooldowns: [CheckpointCooldown] = [], isSound: Bool = true,
    routes: [IPAddress: String] = [:], veths: [String: UInt32] = [:]
  ) -> Restoration {
    Restoration(
      checkpoint: Checkpoint(allocations: allocations, cooldowns: cooldowns), isSound: isSound,
      podRoutes: routes.map { NodeNetwork.PodRoute(address: $0.key, vethSuffix: $0.value) }.sorted {
        $0.address < $1.address
      }, veths: veths, unixNanoseconds: now, cooldown: .seconds(30))
  }

  /// The agent died after it answered the plugin. The plugin may still be working on its veth.
  @Test func youngEntryWithoutVethIsLookedAtAgain() {
    let young = Self.entry(at: Self.now - 1_000_000)
    let restored = Self.restore([young])
    #expect(restored.checkpoint.allocations == [young] && restored.gone.isEmpty)
    #expect(restored.unproven == [Restoration.Unproven(key: young.key, vethSuffix: Self.suffix)])
    #expect(Self.restore([Self.entry(at: Self.now - 6_000_000_000)]).unproven.isEmpty)
  }

  /// The wall clock was set back since then: the age of the entry is unknown, and its plugin may still be running.
  @Test(arguments: [1, 3_600_000_000_000, Int64.max - now]) func entryOfATimeToComeIsLookedAtAgain(_ ahead: Int64) {
    let entry = Self.entry(at: Self.now + ahead)
    let restored = Self.restore([entry])
    #expect(restored.checkpoint.allocations == [entry] && restored.gone.isEmpty && restored.unproven.count == 1)
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let entry: Bool
    let isSound: Bool
    let veth: Bool
    let route: Bool
    /// What happens to the address.
    let outcome: Outcome
    var testDescription: String { "entry \(entry) sound \(isSound) veth \(veth) route \(route)" }
  }

  enum Outcome: Sendable { case kept, gone, recovered, nothing }

  /// A route never appears without its veth, because it points to the veth.
  @Test(arguments: [
    Case(entry: true, isSound: true, veth: true, route: true, outcome: .kept),
    Case(entry: true, isSound: true, veth: true, route: false, outcome: .kept),
    Case(entry: true, isSound: true, veth: false, route: false, outcome: .gone),
    Case(entry: true, isSound: false, veth: true, route: true, outcome: .kept),
    Case(entry: true, isSound: false, veth: true, route: false, outcome: .kept),
    Case(entry: true, isSound: false, veth: false, route: false, outcome: .gone),
    Case(entry: false, isSound: true, veth: true, route: true, outcome: .gone),
    Case(entry: false, isSound: true, veth: true, route: false, outcome: .nothing),
    Case(entry: false, isSound: true, veth: false, route: false, outcome: .nothing),
    Case(entry: false, isSound: false, veth: true, route: true, outcome: .recovered),
    Case(entry: false, isSound: false, veth: true, route: false, outcome: .nothing),
    Case(entry: false, isSound: false, veth: false, route: false, outcome: .nothing),
  ])
  func judges(_ test: Case) {
    let result = Self.restore(
      test.entry ? [Self.entry()] : [], isSound: test.isSound, routes: test.route ? [Self.address: Self.suffix] : [:],
      veths: test.veth ? [Self.suffix: 7] : [:])
    let keys = result.checkpoint.allocations.map(\.key)
    let remains = HostRemains(address: Self.address, vethSuffix: Self.suffix, eniTable: nil, deletesVeth: true)
    switch test.outcome {
    case .kept:
      #expect(keys == [PoolFixture.key("c1")] && result.routes == [Self.address: 7] && result.gone == [])
    case .gone: #expect(keys == [] && result.routes == [:] && result.gone == [remains])
    case .recovered:
      #expect(keys == [.recovered(vethSuffix: Self.suffix)] && result.recovered == [Self.address] && result.gone == [])
    case .nothing: #expect(keys == [] && result.routes == [:] && result.gone == [] && result.recovered == [])
    }
  }

  @Test func addressOfAPodThatEndedRests() {
    let old = CheckpointCooldown(address: Self.other, untilUnixNanoseconds: Self.now + 5)
    let result = Self.restore([Self.entry()], cooldowns: [old])
    #expect(
      result.checkpoint.cooldowns == [
        old, CheckpointCooldown(address: Self.address, untilUnixNanoseconds: Self.now + 30_000_000_000),
      ])
  }

  @Test func entryWithoutAPodIsKept() {
    for pod in [PodName(namespace: "", name: ""), PodName(namespace: "default", name: "")] {
      let result = Self.restore([Self.entry(pod: pod)])
      #expect(result.checkpoint.allocations.count == 1 && result.routes == [:] && result.gone == [])
    }
  }

  @Test func migratedEntryWithAPodIsJudgedByItsVeth() {
    var entry = Self.entry()
    entry.key = .migrated(containerID: "c1")
    #expect(Self.restore([entry], veths: [Self.suffix: 3]).checkpoint.allocations == [entry])
    #expect(Self.restore([entry]).checkpoint.allocations == [])
  }

  @Test func recoveredEntryOutlivesMoreRestarts() {
    let first = Self.restore([], isSound: false, routes: [Self.address: Self.suffix], veths: [Self.suffix: 7])
    let again = Self.restore(
      first.checkpoint.allocations, routes: [Self.address: Self.suffix], veths: [Self.suffix: 7])
    #expect(again.checkpoint.allocations == first.checkpoint.allocations && again.routes == [Self.address: 7])
    let ended = Self.restore(first.checkpoint.allocations)
    #expect(ended.checkpoint.allocations == [] && ended.gone.map(\.address) == [Self.address])
  }

  /// A StatefulSet's pod was recreated under its name; the DEL of the previous sandbox never reached the agent.
  @Test func sandboxBeforeThisOneIsDropped() {
    let old = Self.entry(container: "c1", at: 1)
    let new = Self.entry(Self.other, container: "c2", at: 2)
    let result = Self.restore([old, new], routes: [Self.other: Self.suffix], veths: [Self.suffix: 7])
    #expect(result.checkpoint.allocations == [new] && result.routes == [Self.other: 7])
    #expect(
      result.gone == [HostRemains(address: Self.address, vethSuffix: Self.suffix, eniTable: nil, deletesVeth: false)],
      "the veth is the living one's")
  }

  /// The agent died right after it answered an ADD: the plugin may be about to replace the veth.
  @Test func addUnderWayIsKept() {
    let old = Self.entry(container: "c1", at: 1)
    let new = Self.entry(Self.other, container: "c2", at: 2)
    let result = Self.restore([old, new], routes: [Self.address: Self.suffix], veths: [Self.suffix: 7])
    #expect(Set(result.checkpoint.allocations.map(\.address)) == [Self.address, Self.other])
  }

  @Test func strayRouteDoesNotTakeALivingVeth() {
    let result = Self.restore(
      [Self.entry()], routes: [Self.address: Self.suffix, Self.other: Self.suffix], veths: [Self.suffix: 7])
    #expect(
      result.gone == [HostRemains(address: Self.other, vethSuffix: Self.suffix, eniTable: nil, deletesVeth: false)])
  }

  @Test func keyTellsItsVeth() {
    #expect(AttachmentKey.recovered(vethSuffix: "0123456789a").recoveredVethSuffix == "0123456789a")
    #expect(PoolFixture.key("0123456789a").recoveredVethSuffix == nil)
    #expect(AttachmentKey.recovered(vethSuffix: "0123456789a").isComplete, "the checkpoint's reader wants every part")
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCCloud
import VPCModel
import VPCTransport

@testable import AgentMode

/// The look at IMDS every minute: it is cheap and never trusted, and it makes the pool ask EC2.
@Suite struct AttachmentWatchTests {
  private func fixture(tags: [String: String] = [ENITags.instanceKey: "i-1"]) async throws -> CloudFixture {
    let cloud = FakeCloud()
    cloud.change { state in
      state.enis["eni-1"]?.singles = ["10.0.0.11", "10.0.0.12"]
      state.enis["eni-2"] = FakeCloud.ENI(
        id: "eni-2", mac: "02:00:00:00:00:02", own: "10.0.0.20", prefixes: ["10.0.1.0/28"],
        tags: tags, device: 1, isMarked: true)
    }
    let fixture = try await CloudFixture(cloud)
    _ = try await fixture.enis.describe()
    fixture.cloud.forgetCalls()
    return fixture
  }

  private func watch(_ fixture: CloudFixture) -> AttachmentWatch {
    AttachmentWatch(
      imds: fixture.imds, family: .ipv4, directory: fixture.enis.directory, observe: fixture.enis.observe,
      tell: { _ in },
      time: fixture.time.source, logger: fixture.log.logger)
  }

  @Test func fewestRequests() async throws {
    let fixture = try await fixture()
    let listing = try #require(try await watch(fixture).look())
    #expect(!listing.isAuthoritative && listing.enis.map(\.id.text) == ["eni-1", "eni-2"])
    #expect(listing.enis[0].cidrs.map(\.description) == ["10.0.0.11/32", "10.0.0.12/32"])
    #expect(listing.enis[1].cidrs.map(\.description) == ["10.0.1.0/28"])
    #expect(fixture.cloud.imdsReads.count == 1 + 2 * 2 && fixture.cloud.actions.isEmpty)
  }

  @Test func unmanagedENIsAreNotReadAtAll() async throws {
    let fixture = try await fixture(tags: [ENITags.unmanagedKey: "true"])
    let listing = try #require(try await watch(fixture).look())
    #expect(listing.enis.last?.isManaged == false && fixture.cloud.imdsReads.count == 1 + 2)
  }

  @Test func newENIIsShown() async throws {
    let fixture = try await fixture()
    fixture.cloud.change {
      $0.enis["eni-3"] = FakeCloud.ENI(id: "eni-3", mac: "02:00:00:00:00:03", own: "10.0.0.30", device: 2)
    }
    #expect(try await watch(fixture).look()?.enis.map(\.id.text) == ["eni-1", "eni-2", "eni-3"])
    // The watch hides an ENI that the agent is attaching and one that it has detached: IMDS lags then.
    fixture.enis.directory.setComing(try CloudFixture.eni("eni-3"), true)
    #expect(try await watch(fixture).look()?.enis.count == 2)
    fixture.enis.directory.setComing(try CloudFixture.eni("eni-3"), false)
    fixture.enis.directory.remove(try CloudFixture.eni("eni-2"))
    #expect(try await watch(fixture).look()?.enis.map(\.id.text) == ["eni-1", "eni-3"])
  }

  /// An instance always has its primary ENI. If IMDS shows none, the pool is told nothing.
  @Test func contradictionIsNotTold() async throws {
    let fixture = try await fixture()
    fixture.cloud.change { $0.enis["eni-1"]?.isHiddenFromIMDS = true }
    #expect(try await watch(fixture).look() == nil)
    fixture.cloud.change { $0.isIMDSDown = true }
    await #expect(throws: IMDSError.self) { _ = try await watch(fixture).look() }
  }

  /// Somebody else attaches, assigns or takes something away: one look leads to one query to EC2, and the pool knows.
  @Test(arguments: ["an address came", "an address went", "an ENI came", "an ENI went"])
  func differenceLeadsToEC2(_ what: String) async throws {
    let fixture = try await fixture()
    let settings = PoolSettings(instanceENILimit: 3, slotsPerENI: 9, maxPods: 29, provisions: false)
    var pool = Pool(settings: settings, seed: 1)
    // The start is long enough ago that a lag of IMDS explains nothing.
    var now = PoolClock.now()
    now.instant = now.instant + .seconds(-61)
    var attached = try await fixture.enis.describe()
    for index in attached.indices { attached[index].isWired = true }
    _ = pool.handle(.started(PoolStart(enis: attached)), now: now)
    let quiet = try #require(try await watch(fixture).look())
    now = PoolClock.now()
    #expect(!pool.handle(.observed(quiet), now: now).contains { if case .listENIs = $0 { true } else { false } })
    fixture.cloud.change { state in
      switch what {
      case "an address came": state.enis["eni-1"]?.singles.append("10.0.0.99")
      case "an address went": state.enis["eni-1"]?.singles.removeLast()
      case "an ENI came":
        state.enis["eni-3"] = FakeCloud.ENI(id: "eni-3", mac: "02:00:00:00:00:03", own: "10.0.0.30", device: 2)
      default: state.enis["eni-2"] = nil
      }
    }
    let look = try #require(try await watch(fixture).look())
    now = PoolClock.now()
    let asked = pool.handle(.observed(look), now: now).contains { if case .listENIs = $0 { true } else { false } }
    #expect(asked, "\(what)")
  }
}

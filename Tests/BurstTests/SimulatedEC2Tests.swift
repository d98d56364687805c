// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import BurstSimulation

/// The simulated EC2 refuses what the real one refuses, and detects an address that two pods use.
@Suite struct SimulatedEC2Tests {
  @Test func addressesAreGivenOnceAndComeBack() {
    var space = SubnetSpace()
    let first = space.take(.address, 40) ?? []
    let blocks = space.take(.prefix, 3) ?? []
    #expect(first.count == 40 && first.first?.description == "10.0.0.4/32")
    #expect(blocks.map(\.description) == ["10.0.0.48/28", "10.0.0.64/28", "10.0.0.80/28"])
    let tooMany = space.take(.prefix, 5000)
    #expect(tooMany == nil)
    for prefix in first + blocks { space.giveBack(prefix) }
    let again = space.take(.prefix, 1) ?? []
    let singles = space.take(.address, 13) ?? []
    #expect(again.map(\.description) == ["10.0.0.16/28"])
    #expect(singles.last?.description == "10.0.0.32/32")
  }

  @Test func lifeOfAnENI() throws {
    let clock = VirtualClock()
    let ec2 = SimulatedEC2(clock: clock, eniLimit: 2)
    #expect(ec2.addPrimary(node: 7, .address, count: 2) != nil)
    var seen: [String] = []
    var made: ENIID?
    ec2.create(.address, count: 3) { made = try? $0.get().id }
    while clock.step() {}
    let eni = try #require(made)
    let note = { (name: String) in { (result: Result<Void, SimulatedEC2.Refusal>) in seen.append("\(name) \(result)") }
    }
    ec2.attach(eni, node: 7, device: 0, then: note("taken"))
    while clock.step() {}
    ec2.attach(eni, node: 7, device: 1, then: note("attach"))
    while clock.step() {}
    #expect(!ec2.isVisible(eni))
    clock.after(EC2Action.attachmentLag) { #expect(ec2.isVisible(eni)) }
    ec2.delete(eni, then: note("delete"))
    while clock.step() {}
    ec2.detach(eni, then: note("detach"))
    while clock.step() {}
    ec2.delete(eni, then: note("delete"))
    clock.after(.seconds(5)) { ec2.delete(eni, then: note("delete")) }
    while clock.step() {}
    #expect(
      seen == [
        "taken failure(BurstSimulation.SimulatedEC2.Refusal.deviceTaken)", "attach success()",
        "delete failure(BurstSimulation.SimulatedEC2.Refusal.inUse)", "detach success()",
        "delete failure(BurstSimulation.SimulatedEC2.Refusal.inUse)", "delete success()",
      ])
    #expect(ec2.violations == [])
  }

  @Test func anAddressWithTwoPodsIsSeen() throws {
    let ec2 = SimulatedEC2(clock: VirtualClock(), eniLimit: 2)
    let eni = try #require(ec2.addPrimary(node: 1, .prefix, count: 1))
    let address = try #require(eni.cidrs.first?.address(at: 5))
    ec2.claim(address, pod: 1, node: 1)
    #expect(ec2.violations == [])
    ec2.claim(address, pod: 2, node: 1)
    ec2.claim(try #require(eni.cidrs.first?.address(at: 6)), pod: 3, node: 2)
    #expect(ec2.violations.count == 2)
  }
}

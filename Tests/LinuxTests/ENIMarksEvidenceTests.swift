// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCLinux

/// Compares what the kernel's source map and one listing show about running pods.
@Suite struct ENIMarksEvidenceTests {
  let one: ENIID
  let two: ENIID

  init() throws {
    one = try #require(ENIID("eni-1"))
    two = try #require(ENIID("eni-2"))
  }

  static func prefixes(_ texts: String...) throws -> Set<IPPrefix> {
    Set(try texts.map { try #require(IPPrefix($0)) })
  }

  /// The kernel routes 10.0.1.0/28 and 10.0.1.99 through the first ENI, and 10.0.2.0/28 through the second.
  private func kernel() throws -> [ENIID: ENIMarks.ENI] {
    let marks = ENIMarks(enis: [
      one: .init(mark: 1, sources: try Self.prefixes("10.0.1.0/28", "10.0.1.99/32")),
      two: .init(mark: 2, sources: try Self.prefixes("10.0.2.0/28")),
    ])
    return ENIMarks.led(in: try #require(marks.table(.ipv4)))
  }

  private func evidence(_ wanted: ENIMarks, _ pods: [String], unmarked: Set<IPPrefix> = []) throws -> ENIMarks.Evidence
  {
    wanted.evidence(in: try kernel(), pods: try pods.map { try #require(IPAddress($0)) }, unmarked: unmarked)
  }

  @Test func aMissingPrefixIsKeptForItsPods() throws {
    let wanted = ENIMarks(enis: [
      one: .init(mark: 1, sources: try Self.prefixes("10.0.1.99/32")), two: .init(mark: 2),
    ])
    let found = try evidence(wanted, ["10.0.1.3", "10.0.1.99"])
    #expect(found.kept == [one: .init(mark: 1, sources: try Self.prefixes("10.0.1.0/28"))])
    #expect(found.contested.isEmpty)
    #expect(try evidence(wanted, ["10.0.1.99"]).kept.isEmpty, "nobody uses the prefix")
  }

  /// If no listing shows an ENI, its mark is the one that its chain sets.
  @Test func aMissingENIIsKeptForItsPods() throws {
    let wanted = ENIMarks(enis: [one: .init(mark: 1, sources: try Self.prefixes("10.0.1.0/28"))])
    let found = try evidence(wanted, ["10.0.1.3", "10.0.2.7"])
    #expect(found.kept == [two: .init(mark: 2, sources: try Self.prefixes("10.0.2.0/28"))])
  }

  /// A pod of the primary ENI is in no map. A listing that shows its address on another ENI is just as doubtful.
  @Test func aPodOfThePrimaryStaysThere() throws {
    let wanted = ENIMarks(enis: [
      one: .init(mark: 1, sources: try Self.prefixes("10.0.1.0/28", "10.0.1.99/32", "10.0.3.7/32")),
      two: .init(mark: 2, sources: try Self.prefixes("10.0.2.0/28")),
    ])
    let pod = try #require(IPAddress("10.0.3.7"))
    let table = try kernel()
    let led = wanted.evidence(in: table, pods: [pod], ledByMap: [pod], unmarked: [])
    #expect(led.contested == (try Self.prefixes("10.0.3.7/32")) && led.kept.isEmpty)
    #expect(wanted.evidence(in: table, pods: [pod], unmarked: []).contested.isEmpty, "it has rules of its own")
    let idle = [one: ENIMarks.ENI(mark: 1, address: IPAddress("10.0.9.1"))]
    let none = wanted.evidence(in: idle, pods: [pod], ledByMap: [pod], unmarked: [])
    #expect(none.contested == led.contested, "no pod is on a secondary ENI yet")
    let flushed = [one: ENIMarks.ENI(mark: 1), two: ENIMarks.ENI(mark: 2)]
    #expect(
      wanted.evidence(in: flushed, pods: [pod], ledByMap: [pod], unmarked: []).contested.isEmpty, "nothing is known")
  }

  @Test func whatMovedStaysUntilItIsAskedAgain() throws {
    let moved = ENIMarks(enis: [
      one: .init(mark: 1), two: .init(mark: 2, sources: try Self.prefixes("10.0.1.0/28")),
    ])
    let found = try evidence(moved, ["10.0.1.3"])
    #expect(found.contested == (try Self.prefixes("10.0.1.0/28")))
    #expect(found.kept == [one: .init(mark: 1, sources: try Self.prefixes("10.0.1.0/28"))])
    #expect(found.unclaimed.isEmpty, "another ENI is wanted for it")
    let toPrimary = try evidence(ENIMarks(), ["10.0.1.99"], unmarked: try Self.prefixes("10.0.1.99/32"))
    #expect(toPrimary.contested == (try Self.prefixes("10.0.1.99/32")))
    #expect(toPrimary.kept == [one: .init(mark: 1, sources: try Self.prefixes("10.0.1.99/32"))])
  }

  @Test func podsOfThePrimaryNeedNothing() throws {
    #expect(try evidence(ENIMarks(), ["10.0.3.4"]).kept.isEmpty)
    #expect(Set(try kernel().keys) == [one, two])
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@testable import VPCLinux

/// The ranges of egress-cni, and the order in which their addresses are given.
@Suite struct AddressRangeTests {
  static func range(_ subnet: String, _ first: String? = nil, _ last: String? = nil) throws -> AddressRange? {
    AddressRange(
      subnet: try #require(IPPrefix(subnet)), first: first.flatMap { IPAddress($0) },
      last: last.flatMap { IPAddress($0) })
  }

  @Test(arguments: [
    ("169.254.172.0/22", "169.254.172.1-169.254.175.254", 1021), ("fd00::ac:00/118", "fd00::ac:1-fd00::ac:3ff", 1022),
    ("10.0.0.0/30", "10.0.0.1-10.0.0.2", 1), ("fd00::/126", "fd00::1-fd00::3", 2),
  ])
  func endsAreHostLocals(subnet: String, ends: String, count: Int) throws {
    let range = try #require(try Self.range(subnet))
    #expect(range.description == ends)
    let all = AddressWalk([range], after: nil).map(\.address)
    #expect(all.count == count && Set(all).count == count && !all.contains(range.gateway))
    #expect(all == all.sorted(), "from the start")
  }

  @Test(arguments: [
    // last given, the next three
    (nil, "10.0.0.2 10.0.0.3 10.0.0.4"), ("10.0.0.1", "10.0.0.2 10.0.0.3 10.0.0.4"),
    ("10.0.0.5", "10.0.0.6 10.0.0.2 10.0.0.3"), ("10.0.0.6", "10.0.0.2 10.0.0.3 10.0.0.4"),
    ("10.9.9.9", "10.0.0.2 10.0.0.3 10.0.0.4"), ("fd00::1", "10.0.0.2 10.0.0.3 10.0.0.4"),
  ])
  func theWalkBeginsAfterTheLast(last: String?, next: String) throws {
    let range = try #require(try Self.range("10.0.0.0/29"))
    let walk = AddressWalk([range], after: last.flatMap { IPAddress($0) })
    #expect(walk.prefix(3).map { "\($0.address)" }.joined(separator: " ") == next)
    #expect(Array(walk).count == 5, "each once, the last one too")
  }

  @Test func rangesOfASetFollowEachOther() throws {
    let ranges = [
      try #require(try Self.range("10.0.0.0/29", "10.0.0.5", "10.0.0.6")), try #require(try Self.range("10.1.0.0/30")),
    ]
    let walk = AddressWalk(ranges, after: IPAddress("10.0.0.5"))
    #expect(walk.map { "\($0.address)" } == ["10.0.0.6", "10.1.0.2", "10.0.0.5"])
  }

  @Test(
    arguments: [
      ("10.0.0.0/31", nil, nil), ("10.0.0.0/32", nil, nil), ("fd00::/127", nil, nil), ("10.0.0.0/24", "10.0.1.1", nil),
      ("10.0.0.0/24", "10.0.0.9", "10.0.0.8"), ("10.0.0.0/24", nil, "fd00::1"),
    ] as [(String, String?, String?)])
  func aRangeWithoutRoomIsNone(subnet: String, first: String?, last: String?) throws {
    #expect(try Self.range(subnet, first, last) == nil)
  }
}

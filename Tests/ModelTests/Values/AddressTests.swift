// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct AddressTests {
  @Test(arguments: [
    ("0.0.0.0", "0.0.0.0"), ("10.0.0.1", "10.0.0.1"), ("255.255.255.255", "255.255.255.255"), ("::", "::"),
    ("::1", "::1"), ("2600:1F13:0:0:0:0:0:5", "2600:1f13::5"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
    ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("::ffff:10.0.0.1", "::ffff:10.0.0.1"), ("1::", "1::"),
    ("fd00:ec2::254", "fd00:ec2::254"), ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"),
  ])
  func readsAndWrites(text: String, canonical: String) throws {
    let address = try #require(IPAddress(text))
    #expect(address.description == canonical)
    #expect(IPAddress(bytes: address.bytes) == address)
  }

  @Test(arguments: [
    "", " 10.0.0.1", "10.0.0", "10.0.0.256", "10.0.0.01", "10.0.0.1.2", "1::2::3", ":1", "1:", "12345::",
    "fe80::1%eth0",
    "::g", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::1.2.3", "1.2.3.4::", "10.0.0.-1", "١.0.0.1", ":::", "0x0a.0.0.1",
  ])
  func refuses(_ text: String) {
    #expect(IPAddress(text) == nil)
  }

  @Test func arithmeticStaysInTheFamily() {
    #expect(IPAddress("10.0.0.255")?.advanced(by: 1) == IPAddress("10.0.1.0"))
    #expect(IPAddress("255.255.255.255")?.advanced(by: 1) == nil)
    #expect(IPAddress(ipv6: UInt128.max).advanced(by: 1) == nil)
    #expect(IPAddress(family: .ipv4, bits: 1 << 32) == nil)
    #expect(IPAddress(bytes: [1, 2, 3]) == nil)
    #expect(IPAddress(ipv4: 5) < IPAddress(ipv6: 1))
  }

  @Test(arguments: [
    ("10.0.0.1", true), ("127.0.0.1", false), ("169.254.1.1", false), ("224.0.0.1", false), ("0.0.0.0", false),
    ("fe80::1", false), ("ff02::1", false), ("::1", false), ("fd00::1", true), ("2600::1", true),
  ])
  func globalUnicast(text: String, isGlobal: Bool) {
    #expect(IPAddress(text)?.isGlobalUnicast == isGlobal)
  }

  @Test func prefixes() throws {
    let prefix = try #require(IPPrefix("10.0.0.16/28"))
    #expect(prefix.count == 16)
    #expect(prefix.address(at: 15) == IPAddress("10.0.0.31"))
    #expect(prefix.address(at: 16) == nil)
    #expect(prefix.address(at: -1) == nil)
    #expect(prefix.contains(IPAddress("10.0.0.31") ?? IPAddress(ipv4: 0)))
    #expect(!prefix.contains(IPAddress(ipv6: 0x0a00_001f)))
    #expect(try prefix.overlaps(#require(IPPrefix("10.0.0.0/24"))))
    #expect(try !prefix.contains(#require(IPPrefix("10.0.0.0/24"))))
    #expect(IPPrefix("::/0")?.count == Int.max)
    #expect(IPPrefix("2600::/64")?.count == Int.max)
    #expect(IPPrefix(single: IPAddress(ipv4: 7)).isSingle)
  }

  @Test(arguments: [
    "10.0.0.1/28", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "/8", "::/129",
  ])
  func refusesPrefix(_ text: String) {
    #expect(IPPrefix(text) == nil)
  }

  @Test func normalising() {
    #expect(IPPrefix(normalizing: "10.1.2.3/8")?.description == "10.0.0.0/8")
    #expect(IPPrefix(normalizing: "0.0.0.0/0")?.description == "0.0.0.0/0")
    #expect(IPPrefix(normalizing: "10.1.2.3/40") == nil)
  }

  @Test func macAddresses() throws {
    let mac = try #require(MACAddress("02:00:5E:10:00:ff"))
    #expect(mac.description == "02:00:5e:10:00:ff")
    #expect(MACAddress(bytes: mac.bytes) == mac)
    for text in [
      "", "02:00:5e:10:00", "02:00:5e:10:00:f", "02-00-5e-10-00-ff", "02:00:5e:10:00:ff:00", "0g:00:00:00:00:00",
    ] {
      #expect(MACAddress(text) == nil)
    }
    var random = SplitMix64(seed: 1)
    for _ in 0..<1000 {
      let first = MACAddress.randomLocal(using: &random).bytes[0]
      #expect(first & 3 == 2, "locally administered, unicast")
    }
  }

  @Test func identifiers() {
    #expect(ENIID("eni-0123abc") != nil)
    #expect(SubnetID("subnet-0123abc") != nil)
    for text in ["", "eni-", "eni-A", "eni-a/b", "subnet-1", "eni-" + String(repeating: "a", count: 41)] {
      #expect(ENIID(text) == nil)
    }
    #expect(SubnetID("eni-1") == nil)
    #expect(RouteTable.eni(device: 0) == .main)
    #expect(RouteTable.eni(device: 2).number == 3)
    #expect(RouteTable.eni(device: 1, card: 2).number == 10201)
  }

  @Test func durationsForPeople() {
    #expect(Duration.seconds(12).brief == "12 s")
    #expect(Duration.milliseconds(1550).brief == "1.5 s")
    #expect(Duration.milliseconds(250).brief == "250 ms")
    #expect(Duration.seconds(Int64.max).saturatedNanoseconds == Int64.max)
    #expect(PoolInstant(nanoseconds: Int64.max) + .seconds(1) == PoolInstant(nanoseconds: Int64.max))
  }
}

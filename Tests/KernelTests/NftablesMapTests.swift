// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Testing
import TestSupport
import VPCLinux
import VPCModel

/// The source map in a real kernel, as nft shows it and as we read it back.
@Suite(.requiresRoot, .requires(program: "nft"))
struct NftablesMapTests {
  static let one = ENIID("eni-0001")!
  static let two = ENIID("eni-0002")!

  static func marks(_ first: [String], _ second: [String], families: Set<AddressFamily> = [.ipv4]) -> ENIMarks {
    ENIMarks(
      families: families,
      enis: [
        one: .init(mark: 1, sources: Set(first.map { source($0) })),
        two: .init(mark: 2, sources: Set(second.map { source($0) })),
      ])
  }

  static func source(_ text: String) -> IPPrefix { IPPrefix(text) ?? IPPrefix(single: IPAddress(text)!) }

  /// `nft list ruleset` without trailing white space.
  static func list() throws -> String { try CommandResult.run(["nft", "list", "ruleset"]).get() }

  @Test func looksAsPromisedToNft() throws {
    let listed = try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      try table.apply(Self.marks(["10.0.1.5", "10.0.1.6"], ["10.0.2.0/28", "10.0.2.16/28", "10.0.3.7"]))
      return try Self.list()
    }
    let lines = Set(listed.split(separator: "\n").map { $0.drop { $0 == "\t" } }.map(String.init))
    for line in [
      "table ip vpc-cni {", "map addresses {", "map prefixes {", "type ipv4_addr : verdict", "flags interval",
      "elements = { 10.0.2.0/28 : goto eni-0002, 10.0.2.16/28 : goto eni-0002 }",
      "chain eni-0001 {", "meta mark set meta mark & 0xffffff81 | 0x00000001",
      "type filter hook prerouting priority -50; policy accept;",
      #"iifname "eni*" jump from-pods"#, "ct direction reply ct original ip daddr vmap @enis", "map enis {",
      "chain from-pods {", "meta mark set meta mark & 0xffffff80",
      "ip saddr vmap @addresses", "ip saddr vmap @prefixes", "type route hook output priority mangle; policy accept;",
    ] {
      #expect(lines.contains(line), "\(line) is not in\n\(listed)")
    }
    for element in ["10.0.1.5 : goto eni-0001", "10.0.1.6 : goto eni-0001", "10.0.3.7 : goto eni-0002"] {
      #expect(listed.contains(element))
    }
  }

  /// Message numbers wrap after years of an agent's life. A transaction across the wrap is answered like any other.
  @Test(arguments: 0...9 as ClosedRange<UInt32>) func messageNumbersWrap(_ before: UInt32) throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket(sequence: UInt32.max - before))
      let wanted = Self.marks(["10.0.1.5"], ["10.0.2.0/28"])
      #expect(try !table.apply(wanted).isEmpty)
      #expect(try table.apply(wanted).isEmpty)
    }
  }

  @Test func secondApplyWritesNothing() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      let table = ENIMarkTable(socket: socket)
      let wanted = Self.marks(["10.0.1.5"], ["10.0.2.0/28", "fd00:1::/80", "fd00:2::7"], families: [.ipv4, .ipv6])
      #expect(try !table.apply(wanted).isEmpty)
      let generation = try socket.generation()
      #expect(try table.apply(wanted).isEmpty)
      #expect(try table.differences().isEmpty)
      #expect(try socket.generation() == generation)
    }
  }

  @Test func comesBackAsItWasWritten() throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      try table.apply(
        Self.marks(["10.0.1.5", "255.255.255.240/28"], ["0.0.0.0/28", "fd00:2::7"], families: [.ipv4, .ipv6]))
      let ipv4 = try #require(try table.read(.ipv4))
      #expect(ipv4.foreign.isEmpty)
      #expect(
        ipv4.maps["prefixes"]?.elements == [
          Self.source("255.255.255.240/28"): "eni-0001", Self.source("0.0.0.0/28"): "eni-0002",
        ])
      #expect(try table.read(.ipv6)?.maps["addresses"]?.elements == [Self.source("fd00:2::7"): "eni-0002"])
      #expect(try table.remove())
      #expect(try !table.remove())
      #expect(try table.read(.ipv4) == nil)
      #expect(try Self.list().isEmpty)
    }
  }

  @Test func survivesBeingLoadedAgainByNft() throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      let wanted = Self.marks(["10.0.1.5", "10.0.1.6"], ["10.0.2.0/28", "10.0.2.16/28"])
      try table.apply(wanted)
      let text = try Self.list()
      _ = try CommandResult.run(["nft", "-f", "-"], input: "flush ruleset\n" + text).get()
      #expect(try table.differences().isEmpty)
      #expect(try Self.list() == text)
      // The map can still be changed.
      try table.add([Self.source("10.0.2.32/28"), Self.source("10.0.1.7")], to: Self.one)
      try table.delete([Self.source("10.0.2.16/28"), Self.source("10.0.1.6")], from: Self.two)
      try table.delete([Self.source("10.0.1.6")], from: Self.one)
      #expect(try table.differences().isEmpty)
    }
  }

  @Test(arguments: [
    "add rule ip vpc-cni prerouting counter", "flush chain ip vpc-cni eni-0001", "flush map ip vpc-cni addresses",
    "delete table ip vpc-cni", "add chain ip vpc-cni stray",
    "add chain ip vpc-cni late { type filter hook input priority 0 ; }",
    "add set ip vpc-cni other { type ipv4_addr ; }", "delete element ip vpc-cni prefixes { 10.0.2.0/28 }",
    "add table ip vpc-cni { flags dormant ; }", "add element ip vpc-cni addresses { 10.9.9.9 : drop }",
    "insert rule ip vpc-cni eni-0001 return",
    "add chain ip vpc-cni a ; add chain ip vpc-cni b ; add rule ip vpc-cni a jump b ; add rule ip vpc-cni eni-0001 jump a",
    "add chain ip vpc-cni prerouting { type filter hook prerouting priority -50 ; policy drop ; }",
    "add table ip6 vpc-cni", "flush ruleset",
  ])
  func putsRightWhatOthersChange(_ change: String) throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      let wanted = Self.marks(["10.0.1.5", "10.0.1.6"], ["10.0.2.0/28", "10.0.3.0/28"])
      try table.apply(wanted)
      _ = try CommandResult.run(["nft", "add table ip vpc-cni-other"]).get()
      _ = try CommandResult.run(["nft", "-f", "-"], input: change.split(separator: ";  ").joined() + "\n").get()
      #expect(try !table.differences().isEmpty)
      #expect(try !table.apply(wanted).isEmpty)
      #expect(try table.apply(wanted).isEmpty)
      #expect(try table.read(.ipv4)?.foreign == [])
      #expect(try table.read(.ipv6) == nil)
    }
  }

  @Test func takesChangesOfTheWantedState() throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      let steps = [
        Self.marks(["10.0.1.5", "10.0.1.6"], ["10.0.2.0/28"]),
        // Addresses move to the other ENI.
        Self.marks(["10.0.2.0/28"], ["10.0.1.5", "10.0.1.6"]),
        // Two halves replace a prefix, and the prefix replaces its two halves.
        Self.marks(["10.0.2.0/29", "10.0.2.8/29"], []),
        Self.marks(["10.0.2.0/28"], []),
        // Another mask, another prefix of link names, another family.
        ENIMarks(mask: 0xf0000, vethPrefix: "az", enis: [Self.one: .init(mark: 0x10000)]),
        ENIMarks(families: [.ipv6], enis: [Self.two: .init(mark: 3, sources: [Self.source("fd00::/80")])]),
        ENIMarks(families: []),
      ]
      for step in steps {
        try table.apply(step)
        #expect(try table.differences().isEmpty)
      }
      #expect(try Self.list().isEmpty)
    }
  }

  @Test func addressesComeAndGoOneByOne() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      let table = ENIMarkTable(socket: socket)
      try table.apply(Self.marks([], []))
      try table.add([Self.source("10.0.1.5"), Self.source("10.0.2.0/28")], to: Self.one)
      try table.add([Self.source("10.0.1.5")], to: Self.one)
      #expect(try table.read(.ipv4)?.maps["addresses"]?.elements == [Self.source("10.0.1.5"): "eni-0001"])
      #expect(throws: NftablesError.self) { try table.add([Self.source("10.0.1.5")], to: Self.two) }
      #expect(throws: NftablesError.self) { try table.add([Self.source("10.0.2.0/29")], to: Self.two) }
      #expect(throws: NftablesError.self) { try table.add([Self.source("fd00::1")], to: Self.two) }
      try table.delete([Self.source("10.0.1.5"), Self.source("10.0.1.99")], from: Self.one)
      let generation = try socket.generation()
      try table.delete([Self.source("10.0.1.5")], from: Self.one)
      #expect(try socket.generation() == generation)
      #expect(table.written == Self.marks(["10.0.2.0/28"], []))
      #expect(try table.differences().isEmpty)
    }
  }

  @Test(arguments: ["delete table ip vpc-cni", "flush map ip vpc-cni addresses", "flush map ip vpc-cni prefixes"])
  func oneChangeMendsWhatOthersHaveTaken(_ change: String) throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      try table.apply(Self.marks(["10.0.1.5", "10.0.1.6"], ["10.0.2.0/28"]))
      _ = try CommandResult.run(["nft", change]).get()
      try table.delete([Self.source("10.0.1.5")], from: Self.one)
      try table.delete([Self.source("10.0.2.0/28")], from: Self.two)
      #expect(try table.differences().isEmpty)
    }
  }

  @Test func aRefusedObjectIsNamedAndNothingIsDone() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      let table = NftablesTableID(family: .ipv4, name: "t")
      let shape = NftablesMap.Shape(family: .ipv4, isInterval: false)
      var transaction = NftablesTransaction()
      transaction.append(
        [
          .addTable, .addChain("good", hook: nil), .addMap("m", shape),
          .addElements(map: "m", shape, [.init(key: Self.source("10.0.0.1"), chain: "missing")]),
          .addChain("later", hook: nil),
        ], to: table)
      let error = #expect(throws: NftablesError.self) { try socket.commit(transaction) }
      #expect(error?.code == .refused)
      #expect(error?.attempt == "add 10.0.0.1 to map m, table ip t")
      #expect(error.map { "\($0)" } == "add 10.0.0.1 to map m, table ip t: no such file or directory")
      #expect(try socket.read(table) == nil)
      // The socket still works.
      #expect(try Self.list().isEmpty)
      var second = NftablesTransaction()
      second.append([.addTable, .addChain("good", hook: nil)], to: table)
      try socket.commit(second)
      #expect(try socket.read(table)?.chains.keys.sorted() == ["good"])
    }
  }

  @Test func aStateComputedFromAnOldOneIsRefused() throws {
    try NamespaceFixture().run {
      let socket = try NftablesSocket()
      let generation = try socket.generation()
      _ = try CommandResult.run(["nft", "add table ip other"]).get()
      var transaction = NftablesTransaction()
      transaction.append([.addTable], to: NftablesTableID(family: .ipv4, name: "t"))
      let error = #expect(throws: NftablesError.self) { try socket.commit(transaction, generation: generation) }
      #expect(error?.code == .interrupted)
      #expect(error?.isTransient == true)
      #expect(try !Self.list().contains("table ip t "))
      try socket.commit(transaction, generation: try socket.generation())
    }
  }

  @Test func thousandsOfAddressesInOneTransaction() throws {
    try NamespaceFixture().run {
      let table = ENIMarkTable(socket: try NftablesSocket())
      let many = (0..<8000).map { IPPrefix(single: IPAddress(ipv4: 0x0a00_0000 + $0 * 3)) }
      let prefixes = (0..<2000).map { IPPrefix(containing: IPAddress(ipv4: 0x0b00_0000 + $0 * 16), length: 28)! }
      try table.apply(ENIMarks(enis: [Self.one: .init(mark: 1, sources: Set(many + prefixes))]))
      #expect(try table.read(.ipv4)?.maps["addresses"]?.elements.count == 8000)
      #expect(try table.read(.ipv4)?.maps["prefixes"]?.elements.count == 2000)
      #expect(try table.differences().isEmpty)
      // The kernel refuses 8,001 elements with one error each, and the first error is reported.
      let socket = try NftablesSocket()
      var transaction = NftablesTransaction()
      let shape = NftablesMap.Shape(family: .ipv4, isInterval: false)
      transaction.append(
        [
          .deleteElements(
            map: "addresses", shape,
            (0..<2000).map { .init(key: IPPrefix(single: IPAddress(ipv4: 5 + $0)), chain: "x") })
        ],
        to: NftablesTableID(family: .ipv4, name: "vpc-cni"))
      let error = #expect(throws: NftablesError.self) { try socket.commit(transaction) }
      #expect(error?.attempt.hasPrefix("delete 0.0.0.5, 0.0.0.6, 0.0.0.7 and 125 more from map addresses") == true)
    }
  }

  @Test func missingLibrariesAreNamed() {
    let first = NftablesLibrary.probe(mnl: "libmnl.so.99", nftnl: "libnftnl.so.11")
    #expect(first?.code == .unavailable)
    #expect(first?.detail?.contains("libmnl.so.99") == true)
    let second = NftablesLibrary.probe(mnl: "libmnl.so.0", nftnl: "libnftnl.so.99")
    #expect(second?.detail?.contains("libnftnl.so.99") == true)
    let third = NftablesLibrary.probe(mnl: "libmnl.so.0", nftnl: "libmnl.so.0")
    #expect(third?.detail == "libnftnl lacks nftnl_nlmsg_build_hdr")
  }
}

extension ENIMarkTable {
  /// Adds sources to an ENI of the last written state.
  func add(_ sources: [IPPrefix], to eni: ENIID) throws {
    var next = try #require(written)
    next.enis[eni]?.sources.formUnion(sources)
    try update(to: next)
  }

  func delete(_ sources: [IPPrefix], from eni: ENIID) throws {
    var next = try #require(written)
    next.enis[eni]?.sources.subtract(sources)
    try update(to: next)
  }
}

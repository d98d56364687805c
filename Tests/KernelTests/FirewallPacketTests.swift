// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Glibc
import Synchronization
import Testing
import TestSupport
import VPCLinux
import VPCModel

/// Packets through the source map, with a pod, a node with two ENIs, and the fabric at the other ends of the ENIs.
@Suite(.requiresRoot, .requires(program: "nft"), .requires(program: "ping"))
struct FirewallPacketTests {
  /// pod 10.0.1.5 — (eni0) node (eth0, eth1) — (f0, f1) fabric with 192.0.2.1. The node's table 2 routes to eth1.
  struct Wires {
    let pod: NamespaceFixture
    let node: NamespaceFixture
    let fabric: NamespaceFixture

    init() throws {
      pod = try NamespaceFixture()
      node = try NamespaceFixture()
      fabric = try NamespaceFixture(["addr add 192.0.2.1/32 dev lo"])
      for fixture in [node, fabric] {
        try FirewallPacketTests.shell(
          fixture, "for f in all default; do echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter; done")
        try FirewallPacketTests.shell(fixture, "echo 1 > /proc/sys/net/ipv4/ip_forward")
      }
      try node.ip("link add eni0 type veth peer name eth0 netns \(pod.path)")
      try node.ip("link add eth0 type veth peer name f0 netns \(fabric.path)")
      try node.ip("link add eth1 type veth peer name f1 netns \(fabric.path)")
      for line in [
        "link set eth0 up", "addr add 10.0.1.5/32 dev eth0", "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1",
      ] { try pod.ip(line) }
      for line in [
        "link set eni0 up", "link set eth0 up", "link set eth1 up", "addr add 169.254.1.1/32 dev eni0",
        "addr add 10.0.0.4/24 dev eth0", "addr add 10.0.8.4/24 dev eth1", "route add default via 10.0.0.1",
        "route add default via 10.0.8.1 dev eth1 table 2", "route add 10.0.1.5 dev eni0 scope link table 20512",
        "rule add priority 512 lookup 20512", "rule add priority 1536 fwmark 1/0x7f lookup 2",
      ] { try node.ip(line) }
      for line in [
        "link set f0 up", "link set f1 up", "addr add 10.0.0.1/24 dev f0", "addr add 10.0.8.1/24 dev f1",
        "route add 10.0.1.0/24 via 10.0.8.4",
      ] { try fabric.ip(line) }
      try FirewallPacketTests.nft(
        fabric,
        """
        table ip seen {
          chain in {
            type filter hook prerouting priority -300;
            iifname "f0" ip saddr 10.0.1.5 counter comment "primary"
            iifname "f1" ip saddr 10.0.1.5 counter comment "secondary"
            iifname "f1" ip saddr 10.0.1.5 tcp flags & rst == rst counter comment "reset"
          }
        }

        """)
    }

    /// The number of packets that a counter has seen.
    func count(_ fixture: NamespaceFixture, _ comment: String) throws -> Int {
      let text = try fixture.command(["nft", "list", "ruleset"]).get()
      let line = try #require(text.split(separator: "\n").first { $0.contains("comment \"\(comment)\"") })
      let words = line.split(separator: " ")
      let index = try #require(words.firstIndex(of: "packets"))
      return try #require(Int(words[index + 1]))
    }

    func ping(_ count: Int, interval: String = "0.002") throws -> CommandResult {
      try pod.command(["ping", "-q", "-c", "\(count)", "-i", interval, "-W", "2", "192.0.2.1"])
    }
  }

  static func shell(_ fixture: NamespaceFixture, _ line: String) throws {
    _ = try fixture.command(["sh", "-c", line]).get()
  }

  static func nft(_ fixture: NamespaceFixture, _ text: String) throws {
    _ = try fixture.command(["nft", "-f", "-"], input: text).get()
  }

  static func apply(_ wires: Wires, _ sources: [String]) throws {
    try wires.node.run {
      let marks = NftablesMapTests.marks(sources, [])
      try ENIMarkTable(socket: try NftablesSocket()).apply(marks)
    }
  }

  @Test(arguments: ["10.0.1.5", "10.0.1.0/28"]) func aMappedSourceLeavesByItsENI(_ source: String) throws {
    let wires = try Wires()
    // A source that is not in the map leaves by the primary ENI. (Replies use the other one: rp_filter is off.)
    try Self.apply(wires, [])
    _ = try wires.ping(3).get()
    #expect(try wires.count(wires.fabric, "primary") == 3)
    try Self.apply(wires, [source])
    _ = try wires.ping(5).get()
    #expect(try wires.count(wires.fabric, "primary") == 3)
    #expect(try wires.count(wires.fabric, "secondary") == 5)
    try Self.apply(wires, [])
    _ = try wires.ping(2).get()
    #expect(try wires.count(wires.fabric, "primary") == 5)
  }

  /// A pod that is in no source map replies to a connection to an ENI's own address (DNAT, as for a NodePort). The
  /// reply leaves by that ENI. Without the map of these addresses, it leaves by the primary ENI, with an address that
  /// is not the primary ENI's.
  @Test(arguments: [false, true]) func whatAnswersAnENIsOwnAddressLeavesByIt(_ isKnown: Bool) throws {
    let wires = try Wires()
    try Self.nft(
      wires.node,
      "table ip nodeport { chain p { type nat hook prerouting priority -100; ip daddr 10.0.8.4 dnat to 10.0.1.5; }; }\n"
    )
    try Self.nft(
      wires.fabric,
      """
      table ip answers {
        chain in {
          type filter hook prerouting priority -300;
          iifname "f0" ip saddr 10.0.8.4 counter comment "by the primary"
          iifname "f1" ip saddr 10.0.8.4 counter comment "by its own"
        }
      }

      """)
    try wires.node.run {
      var marks = NftablesMapTests.marks([], [])
      if isKnown { marks.enis[NftablesMapTests.one]?.address = IPAddress("10.0.8.4") }
      try ENIMarkTable(socket: try NftablesSocket()).apply(marks)
    }
    _ = try wires.fabric.command(["ping", "-q", "-c", "3", "-i", "0.01", "-W", "2", "-I", "192.0.2.1", "10.0.8.4"])
      .get()
    #expect(try wires.count(wires.fabric, "by its own") == (isKnown ? 3 : 0))
    #expect(try wires.count(wires.fabric, "by the primary") == (isKnown ? 0 : 3))
  }

  /// Connections are found by their mark alone.
  @Test func connectionsWithAMarkAreFound() throws {
    let wires = try Wires()
    let mark = PacketMark(value: 0x300, mask: 0x300)
    let isFound = { try wires.node.run { try ConnectionTracking.hasConnections(marked: mark) } }
    try Self.nft(
      wires.node,
      "table ip m { chain p { type filter hook prerouting priority 0; ip saddr 10.0.1.5 ct mark set 0x100; }; }\n")
    _ = try wires.ping(1).get()
    #expect(try !isFound(), "another connection's mark has a part of it")
    try Self.nft(
      wires.node,
      "flush table ip m\ntable ip m { chain p { type filter hook prerouting priority 0; ip saddr 10.0.1.5 ct mark set 0x380; }; }\n"
    )
    _ = try wires.ping(1).get()
    #expect(try isFound())
  }

  @Test func foreignBitsOfTheMarkSurviveAndOursAreSetAnew() throws {
    let wires = try Wires()
    try Self.nft(
      wires.node,
      """
      table ip others {
        chain before { type filter hook prerouting priority -200; iifname "eni0" meta mark set 0xab005a7e; }
        chain after {
          type filter hook postrouting priority 300;
          oifname "eth1" meta mark 0xab005a01 counter comment "mapped"
          oifname "eth0" meta mark 0xab005a00 counter comment "cleared"
        }
      }

      """)
    try Self.apply(wires, ["10.0.1.5"])
    _ = try wires.ping(4).get()
    #expect(try wires.count(wires.node, "mapped") == 4)
    try Self.apply(wires, [])
    _ = try wires.ping(4).get()
    #expect(try wires.count(wires.node, "cleared") == 4)
  }

  @Test(.requires(program: "bash")) func whatTheNodeMakesInAPodsNameLeavesByThePodsENI() throws {
    let wires = try Wires()
    try Self.nft(
      wires.node,
      """
      table ip refusing {
        chain forward { type filter hook forward priority 0; ip daddr 10.0.1.5 tcp dport 81 reject with tcp reset; }
      }

      """)
    try Self.apply(wires, ["10.0.1.5"])
    let refused = try wires.fabric.command(["timeout", "5", "bash", "-c", "exec 3<>/dev/tcp/10.0.1.5/81"])
    #expect(refused.status == 1)
    #expect(try wires.count(wires.fabric, "reset") == 1)
    #expect(try wires.count(wires.fabric, "primary") == 0)
  }

  @Test func noPacketIsLostWhileElementsComeAndGo() throws {
    let wires = try Wires()
    try Self.apply(wires, ["10.0.1.5"])
    let churn = try Churn(wires.node.namespace)
    var pings: [CommandResult] = []
    while pings.count < 4 || churn.rounds <= 100, pings.count < 40 {
      pings.append(try wires.ping(500, interval: "0.001"))
    }
    churn.end()
    for batch in pings { _ = try batch.get() }
    #expect(churn.failure == nil)
    #expect(churn.rounds > 100)
    #expect(try wires.count(wires.fabric, "secondary") == 500 * pings.count)
    #expect(try wires.count(wires.fabric, "primary") == 0)
  }
}

/// A thread that changes the source map as fast as it can, except for the element of 10.0.1.5.
private final class Churn: Sendable {
  private struct State {
    var rounds = 0
    var isOver = false
    var failure: String?
  }

  private let state = Mutex(State())
  private let thread = Mutex(pthread_t())

  /// Returns once the first change is made.
  init(_ namespace: NetworkNamespace) throws {
    let context = Unmanaged.passRetained(
      Work { [self] in
        do { try namespace.run { try self.change() } } catch { state.withLock { $0.failure = "\(error)" } }
      })
    let code = thread.withLock {
      pthread_create(
        &$0, nil,
        {
          Unmanaged<Work>.fromOpaque($0!).takeRetainedValue().body(); return nil
        }, context.toOpaque())
    }
    #expect(code == 0)
    while rounds == 0 && failure == nil { sched_yield() }
  }

  var rounds: Int { state.withLock { $0.rounds } }
  var failure: String? { state.withLock { $0.failure } }

  func end() {
    state.withLock { $0.isOver = true }
    pthread_join(thread.withLock { $0 }, nil)
  }

  private func change() throws {
    let table = ENIMarkTable(socket: try NftablesSocket())
    try table.apply(NftablesMapTests.marks(["10.0.1.5"], []))
    while !state.withLock({ $0.isOver }) {
      let round = UInt32(rounds)
      let address = IPPrefix(single: IPAddress(ipv4: 0x0a00_0200 + round % 1000))
      let prefix = IPPrefix(containing: IPAddress(ipv4: 0x0a01_0000 + round % 1000 * 16), length: 28)!
      try table.add([address, prefix], to: NftablesMapTests.one)
      if round % 50 == 0 {
        // From time to time, apply a whole wanted state.
        try table.apply(NftablesMapTests.marks(["10.0.1.5"], ["10.0.9.\(round % 250)"]))
      } else {
        try table.delete([address, prefix], from: NftablesMapTests.one)
      }
      state.withLock { $0.rounds += 1 }
    }
  }

  private final class Work {
    let body: () -> Void
    init(_ body: @escaping () -> Void) { self.body = body }
  }
}

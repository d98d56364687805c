// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCLinux

/// What the kernel reports for each kind of change, whichever program makes it.
@Suite(.requiresRoot)
struct NodeMonitorTests {
  private let node: NamespaceFixture
  private let monitor: NodeMonitor
  private let link: Link

  init() throws {
    let node = try NamespaceFixture()
    self.node = node
    link = try node.addLink("ens6", mac: MACAddress("02:00:00:00:00:0b"))
    // The kernel reports a carrier a little later. From here on, the monitor sees only what a test does.
    for name in ["ens6", "far-ens6"] {
      let deadline = ContinuousClock.now + .seconds(20)
      while try !node.ip("link show \(name)").contains("state UP") {
        try #require(ContinuousClock.now < deadline, "\(name) comes up")
      }
    }
    monitor = try node.run { UnsafeTransfer(value: try NodeMonitor([.ipv4])) }.value
  }

  /// Runs commands and returns the reported changes. Each change is complete when its command returns.
  private func told(_ lines: [String], leavingOut own: NodeMonitor.OwnPorts = .init()) throws -> NodeChanges {
    for line in lines { _ = try node.command(line.split(separator: " ").map(String.init)).get() }
    return try monitor.take(leavingOut: own)
  }

  @Test func rulesRoutesAddressesAndLinks() throws {
    let pod = Route(to: try #require(IPPrefix("10.0.3.7/32")), table: .pods, device: link.index)
    let rule = PolicyRule(family: .ipv4, priority: 512, table: .pods)
    var changes = try told(["ip rule add priority 512 lookup 20512", "ip route add 10.0.3.7 dev ens6 table 20512"])
    #expect(changes.addedRules.contains(rule) && changes.addedRoutes.contains { $0.matches(pod) })
    #expect(!changes.origin.ports.isEmpty && !changes.isLost)
    changes = try told(["ip rule flush", "ip route flush table 20512", "ip address add 10.0.1.9/24 dev ens6"])
    #expect(changes.removedRules.contains(rule) && changes.removedRules.contains { $0.priority == 32766 })
    #expect(changes.removedRoutes.contains { $0.matches(pod) } && changes.addresses == [link.index])
    changes = try told(["ip link set ens6 down", "ip link set ens6 address 02:00:00:00:00:99 up mtu 1400"])
    let change = try #require(changes.links[link.index])
    #expect(change.wasDown && change.now?.isUp == true && change.now?.mtu == 1400)
    #expect(change.now?.mac == MACAddress("02:00:00:00:00:99"))
    changes = try told(["ip link del ens6"])
    #expect(changes.links[link.index]?.now == nil)
    #expect(try monitor.take(leavingOut: .init()).isEmpty)
  }

  /// The kernel reports changes of the reverse-path check, but not of other settings.
  @Test func theReversePathCheck() throws {
    try node.run { _ = try Sysctl(name: "net.ipv4.conf.ens6.rp_filter").writeBlindly("1") }
    #expect(try monitor.take(leavingOut: .init()).settings.contains(link.index))
  }

  @Test func ownChangesAreLeftOut() throws {
    let socket = try node.socket()
    let own = NodeMonitor.OwnPorts(route: [socket.port])
    let rule = PolicyRule(family: .ipv4, priority: 512, table: .pods)
    try socket.perform([.add(rule), .delete(rule)])
    #expect(try told([], leavingOut: own).isEmpty)
    try socket.perform([.add(rule)])
    let changes = try told(["ip rule del priority 512"], leavingOut: own)
    #expect(changes.addedRules.isEmpty && changes.removedRules == [rule])
  }

  @Test(.requires(program: "nft")) func nftablesAndWhoChangedIt() throws {
    var changes = try told(["nft add table ip vpc-cni", "nft add chain ip vpc-cni prerouting"])
    #expect(changes.tables == ["vpc-cni"] && changes.origin.programs == ["nft"] && changes.iptablesChains.isEmpty)
    changes = try told(["nft flush ruleset"])
    #expect(changes.tables == ["vpc-cni"])
    let own = try node.run { UnsafeTransfer(value: try NftablesSocket()) }.value
    var transaction = NftablesTransaction()
    transaction.append([.addTable], to: NftablesTableID(family: .ipv4, name: "vpc-cni"))
    try own.commit(transaction)
    #expect(try monitor.take(leavingOut: .init(netfilter: [own.port])).isEmpty)
  }

  @Test(.requires(program: "iptables-nft")) func iptablesByItsNotices() throws {
    var changes = try told(["iptables-nft -t nat -N AWS-SNAT-CHAIN-0", "iptables-nft -t nat -N KUBE-SERVICES"])
    #expect(changes.iptablesChains.contains("AWS-SNAT-CHAIN-0") && !changes.iptablesChains.contains("KUBE-SERVICES"))
    changes = try told(["iptables-nft -t nat -A KUBE-SERVICES -j RETURN"])
    #expect(changes.iptablesChains.isEmpty)
    changes = try told(["iptables-nft -t nat -F AWS-SNAT-CHAIN-0", "iptables-nft -t nat -X AWS-SNAT-CHAIN-0"])
    #expect(changes.iptablesChains.contains("AWS-SNAT-CHAIN-0"))
  }

  /// More notices than the queue holds: the kernel reports the loss, and the socket keeps working.
  @Test func lostNoticesAreTold() throws {
    let small = try node.run {
      UnsafeTransfer(value: try NetlinkMonitor([.rules], families: [.ipv4], queueSize: 4096))
    }.value
    let socket = try node.socket()
    let rules = (0..<500).map { PolicyRule(family: .ipv4, priority: 2000 + $0, table: .main) }
    try socket.perform(rules.map { .add($0) })
    var isLost = false
    while let notice = try small.nextNotice(until: .now) { if case .lost = notice.event { isLost = true } }
    #expect(isLost)
    try socket.perform(.delete(rules[0]))
    guard case .rule(rules[0], isRemoved: true)? = try small.next(until: .now + .seconds(5)) else {
      Issue.record("the next notice did not come")
      return
    }
  }

  /// A monitor that cannot be opened leaks nothing, however often opening it is retried. The test runs in a process of
  /// its own, in which no file can be opened.
  @Test func aMonitorThatCannotBeOpenedLeaksNothing() async {
    await #expect(processExitsWith: .success) {
      let size = { () -> Int in
        let text = (try? BoundedFile.read("/proc/self/statm", limit: 4096)) ?? []
        return Int(String(decoding: text, as: UTF8.self).prefix { $0 != " " }) ?? 0
      }
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
      var old = rlimit()
      getrlimit(resource, &old)
      let before = size()
      var none = rlimit(rlim_cur: 0, rlim_max: old.rlim_max)
      setrlimit(resource, &none)
      var opened = 0
      for _ in 0..<20_000 {
        if (try? NetlinkMonitor(.links)) != nil { opened += 1 }
        if (try? NftablesMonitor(queueSize: 4096)) != nil { opened += 1 }
      }
      setrlimit(resource, &old)
      let grown = (size() - before) * 4096
      precondition(opened == 0 && before > 0, "\(opened) opened")
      // Each leaked buffer would have 32 or 64 KiB: 1.9 GB in all. A thread of Swift's pool that starts meanwhile
      // reserves up to 136 MB for its stack and its part of the heap.
      precondition(grown < 600_000_000, "\(grown) bytes")
    }
  }

  @Test func aWaitEndsWithAChangeOrWhenItIsInterrupted() async throws {
    let waiter = try Waiter(in: node)
    async let changed: Void = waiter.wait()
    try node.ip("rule add priority 512 lookup 20512")
    try await changed
    #expect(try await !waiter.take().isEmpty)
    let interrupt = await waiter.interrupt
    async let interrupted: Void = waiter.wait()
    interrupt()
    try await interrupted
    #expect(try await waiter.take().isEmpty)
  }
}

private actor Waiter {
  private let executor: ThreadExecutor
  private let monitor: NodeMonitor

  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  init(in node: NamespaceFixture) throws {
    executor = try ThreadExecutor(name: "waiter")
    monitor = try node.run { UnsafeTransfer(value: try NodeMonitor([.ipv4])) }.value
  }

  var interrupt: @Sendable () -> Void { monitor.interrupt }
  func wait() throws { try monitor.wait() }
  func take() throws -> NodeChanges { try monitor.take(leavingOut: .init()) }
}

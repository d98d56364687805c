// SPDX-License-Identifier: Apache-2.0

import CNetlink
import Glibc
import TestSupport
import Testing
import VPCModel
import VPCSystem

@testable import VPCLinux

@Suite(.requiresRoot)
struct NetlinkSocketTests {
  @Test func aBatchGoesOnBehindAFailureAndTellsEachResult() throws {
    let node = try NamespaceFixture()
    let socket = try node.socket()
    let link = try node.addLink("d0").index
    let pod = Route(to: IPPrefix(single: IPAddress(ipv4: 0x0a00_0307)), table: .pods, device: link)
    let lost = Route(to: IPPrefix(single: IPAddress(ipv4: 0x0a00_0308)), table: .pods, device: 4711)
    let results = try socket.performEach([.add(pod), .add(lost), .delete(lost), .delete(pod), .delete(pod)])
    #expect(results[0] == .success(.done))
    guard case .failure(let error) = results[1] else {
      Issue.record("a route by a missing link was added")
      return
    }
    #expect(error.code == .notFound)
    #expect(results[2...] == [.success(.alreadyGone), .success(.done), .success(.alreadyGone)])
    let thrown = #expect(throws: NetlinkError.self) { try socket.perform([.add(pod), .add(lost), .delete(pod)]) }
    #expect(thrown == error)
    #expect(try Route.list(table: .pods, family: .ipv4, on: socket).isEmpty)
    #expect(try socket.performEach([]).isEmpty)
  }

  @Test func anInterruptedDumpIsReadAgain() throws {
    let node = try NamespaceFixture()
    let (socket, other) = (try smallSocket(node), try node.socket())
    let link = try node.addLink("d0").index
    let addresses = (0..<250).map { InterfaceAddress(IPAddress(ipv4: 0x0a05_0000 + $0), on: link) }
    try other.perform(addresses.map { .add($0) })
    var changes = 0
    let listed = try list(link, on: socket) {
      // Change the list once during the first reading and once during the second.
      if $0.address == addresses[0].address, changes < 2 {
        changes += 1
        try other.perform(.delete(addresses[250 - changes]))
      }
    }
    #expect(changes == 2 && listed.count == 248)
  }

  @Test func aDumpInterruptedEachTimeIsATransientError() throws {
    let node = try NamespaceFixture()
    let (socket, other) = (try smallSocket(node), try node.socket())
    let link = try node.addLink("d0").index
    let addresses = (0..<250).map { InterfaceAddress(IPAddress(ipv4: 0x0a05_0000 + $0), on: link) }
    try other.perform(addresses.map { .add($0) })
    var changes = 0
    let error = #expect(throws: NetlinkError.self) {
      _ = try list(link, on: socket) {
        if $0.address == addresses[0].address {
          changes += 1
          try other.perform(.delete(addresses[250 - changes]))
        }
      }
    }
    #expect(changes == 5 && error?.code == .interrupted && error?.isTransient == true)
    #expect(error?.description == "list: changed during every attempt to read it")
    // The socket still works.
    #expect(try Link.find(index: link, on: socket)?.index == link)
  }

  /// A list arrives in several parts on this socket, so that it can change between two of them.
  private func smallSocket(_ node: NamespaceFixture) throws -> NetlinkSocket {
    try node.run { UnsafeTransfer(value: try NetlinkSocket(bufferSize: 4096)) }.value
  }

  private func list(
    _ link: UInt32, on socket: NetlinkSocket, each: (InterfaceAddress) throws -> Void
  ) throws -> [InterfaceAddress] {
    var header = ifaddrmsg()
    header.ifa_family = UInt8(AF_INET)
    // List the addresses of all links: if only one link is listed, the kernel does not report that the list changed.
    let request = NetlinkRequest(message: NetlinkMessage(RTM_GETADDR, header: header), text: { "list" })
    return try socket.dump(request) { (reply) throws(NetlinkError) in
      guard let address = InterfaceAddress(reply: reply), address.link == link else { return nil }
      do { try each(address) } catch { throw NetlinkError(.other, "\(error)") }
      return address
    }
  }

  @Test func anAnswerThatDoesNotComeTimesOut() throws {
    let monitor = try NamespaceFixture().run { UnsafeTransfer(value: try NetlinkMonitor(.links)) }.value
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try monitor.next(until: start + .milliseconds(30)) == nil)
    #expect(clock.now - start >= .milliseconds(30))
  }

  @Test func anAnswerLongerThanTheBufferIsAnError() throws {
    let error = try NamespaceFixture().run {
      let socket = try NetlinkSocket(bufferSize: 64)
      return #expect(throws: NetlinkError.self) { _ = try Link.find(index: 1, on: socket) }
    }
    #expect(error?.code == .malformed && error?.detail == "longer than 64 bytes")
  }

  @Test func aRequestThatDoesNotFitIsNotSent() throws {
    let message = NetlinkMessage(RTM_GETLINK, header: ifinfomsg())
    message.put(IFLA_IFALIAS, String(repeating: "x", count: 5000))
    let socket = try NamespaceFixture().socket()
    let error = #expect(throws: NetlinkError.self) {
      try socket.perform(NetlinkRequest(message: message, text: { "ask too much" }))
    }
    #expect(error?.description == "ask too much: the request does not fit a message")
  }

  @Test func changesAreTold() throws {
    let node = try NamespaceFixture()
    let monitor = try node.run {
      UnsafeTransfer(value: try NetlinkMonitor([.links, .addresses, .routes, .rules]))
    }.value
    let socket = try node.socket()
    let link = try node.addLink("d0").index
    let address = InterfaceAddress(IPAddress(ipv4: 0x0a00_0105), on: link)
    let route = Route(to: IPPrefix(single: IPAddress(ipv4: 0x0a00_0307)), table: .pods, device: link)
    let rule = PolicyRule(family: .ipv4, priority: 512, table: .pods)
    try socket.perform([.add(address), .add(route), .add(rule), .delete(rule), .delete(route), .deleteLink(link)])
    var seen: Set<String> = []
    let wanted: Set<String> = [
      "+link d0", "-link d0", "+address", "-address", "+route", "-route", "+rule", "-rule",
    ]
    let deadline = ContinuousClock.now + .seconds(10)
    while !wanted.isSubset(of: seen), let event = try monitor.next(until: deadline) {
      switch event {
      case .link(let link, let isRemoved): seen.insert((isRemoved ? "-" : "+") + "link \(link.name)")
      case .address(address, let isRemoved): seen.insert((isRemoved ? "-" : "+") + "address")
      case .route(let found, let isRemoved) where found.matches(route): seen.insert((isRemoved ? "-" : "+") + "route")
      case .rule(rule, let isRemoved): seen.insert((isRemoved ? "-" : "+") + "rule")
      default: break
      }
    }
    #expect(wanted.subtracting(seen).isEmpty)
  }

  @Test func aLinkThatComesLaterIsWaitedFor() async throws {
    let node = try NamespaceFixture()
    let mac = try #require(MACAddress("02:00:00:00:00:0b"))
    let waiter = try Waiter(in: node.namespace)
    #expect(try await waiter.wait(for: mac, .milliseconds(10)) == nil)
    async let found = waiter.wait(for: mac, .seconds(60))
    try node.addLink("d0", mac: mac)
    #expect(try await found?.name == "d0")
  }
}

/// Waits on a thread of its own, as the agent does: a test must not block the threads that all tests share.
private actor Waiter {
  private let executor: ThreadExecutor
  private let monitor: NetlinkMonitor
  private let socket: NetlinkSocket

  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  init(in namespace: NetworkNamespace) throws {
    executor = try ThreadExecutor(name: "waiter")
    monitor = try namespace.run { UnsafeTransfer(value: try NetlinkMonitor(.links)) }.value
    socket = try namespace.openSocket()
  }

  func wait(for mac: MACAddress, _ time: Duration) throws -> Link? {
    try monitor.waitForLink(mac: mac, until: .now + time, on: socket)
  }
}

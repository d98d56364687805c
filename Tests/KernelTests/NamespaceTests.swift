// SPDX-License-Identifier: Apache-2.0

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel
import VPCSystem

@Suite(.requiresRoot)
struct NamespaceTests {
  @Test func identitiesTellNamespacesApart() throws {
    let (one, two) = (try NamespaceFixture(), try NamespaceFixture())
    #expect(one.namespace.identity != two.namespace.identity)
    #expect(try NetworkNamespace(path: one.path).identity == one.namespace.identity)
    let inside = try one.run { try NetworkNamespace.current().identity }
    #expect(inside == one.namespace.identity)
    // The thread that entered the namespace has ended, and this thread was never inside.
    #expect(try NetworkNamespace.current().identity != one.namespace.identity)
  }

  @Test(arguments: [
    ("/proc/self/ns/mnt", "a namespace of another type"), ("/proc/self/ns/pid", "a namespace of another type"),
    ("/etc/passwd", "not a namespace"), ("/proc/self/status", "not a namespace"), ("/", "not a namespace"),
    ("/dev/null", "not a namespace"), ("", "not a path"), ("/proc/self/ns/net\u{0}/x", "not a path"),
    ("/" + String(repeating: "x", count: 5000), "not a path"),
  ])
  func whatIsNoNetworkNamespaceIsRefused(path: String, reason: String) throws {
    let error = #expect(throws: NetworkNamespace.Refusal.self) { _ = try NetworkNamespace(path: path) }
    #expect(error?.reason == reason)
  }

  @Test func aMissingPathIsASystemCallError() throws {
    let error = #expect(throws: SystemCallError.self) { _ = try NetworkNamespace(path: "/var/run/netns/none") }
    #expect(error?.errno == ENOENT)
    #expect(
      error?.description == "open network namespace /var/run/netns/none: no such file or directory (errno 2)")
  }

  @Test func theCallingThreadComesBack() throws {
    let one = try NamespaceFixture()
    // Use a thread of the test's own: this function may run on any thread of the pool.
    let (before, inside, after, failed) = try SystemThread.run {
      let before = try NetworkNamespace.current().identity
      let inside = try one.namespace.runOnThisThread { try NetworkNamespace.current().identity }
      let failed = #expect(throws: SystemCallError.self) {
        try one.namespace.runOnThisThread { throw SystemCallError(errno: EINVAL, call: "test") }
      }
      return (before, inside, try NetworkNamespace.current().identity, failed)
    }
    #expect(inside == one.namespace.identity && before == after && before != inside && failed?.call == "test")
  }

  @Test func aSocketKeepsItsNamespace() throws {
    let node = try NamespaceFixture()
    try node.addLink("d0")
    let socket = try node.socket()
    #expect(try Link.find(named: try NetlinkLinkTests.name("d0"), on: socket) != nil)
    let other = try SystemThread.run {
      try node.namespace.openSocketOnThisThread().perform(.deleteLink(named: try NetlinkLinkTests.name("d0")))
    }
    #expect(other == .done)
    #expect(try Link.find(named: try NetlinkLinkTests.name("d0"), on: socket) == nil)
  }

  @Test func aKernelSettingIsThatOfTheNamespace() throws {
    let node = try NamespaceFixture()
    try node.addLink("eth0.5")
    try node.run {
      let setting = try Sysctl.interface(try NetlinkLinkTests.name("eth0.5"), .ipv4, "rp_filter")
      #expect(setting.path == "net/ipv4/conf/eth0.5/rp_filter")
      #expect(try setting.write("2") == .done)
      #expect(try setting.write("2") == .alreadySo)
      #expect(try setting.read() == "2")
      #expect(try setting.writeBlindly("0") == .done)
      #expect(try setting.read() == "0")
      #expect(try Sysctl(name: "net.ipv4.ip_forward").write("1") == .done)
      #expect(try Sysctl(name: "net/ipv4/ip_forward").read() == "1")
      #expect(try Sysctl("net", "ipv4", "conf", "none", "rp_filter").write("2") == .alreadyGone)
      #expect(try Sysctl("net", "ipv4", "conf", "none", "rp_filter").read() == nil)
      let error = #expect(throws: SystemCallError.self) { try setting.write("x") }
      #expect(error?.errno == EINVAL)
      #expect(error?.description == "write setting net/ipv4/conf/eth0.5/rp_filter: invalid argument (errno 22)")
    }
    #expect(try NamespaceFixture().run { try Sysctl(name: "net.ipv4.ip_forward").read() } != nil)
  }
}

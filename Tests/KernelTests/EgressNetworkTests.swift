// SPDX-License-Identifier: Apache-2.0
// swift-format-ignore-file: NeverForceUnwrap

import Glibc
import TestSupport
import Testing
import VPCLinux
import VPCModel

/// The second interface of a pod, as `ip` shows it, and what is left of it after failures.
@Suite(.requiresRoot)
struct EgressNetworkTests {
  private static func hasIPv6() -> Bool { (try? Sysctl(name: "net.ipv6.conf.all.forwarding").read()) ?? nil != nil }

  private static func words(_ text: String) -> [String] {
    text.split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
  }

  @Test func ipv4HasTheContractsState() throws {
    let fixture = try EgressFixture()
    try fixture.node.run { _ = try Sysctl(name: "net.ipv4.ip_forward").write("0") }
    let link = try fixture.add(EgressFixture.network("169.254.172.7"))
    #expect(link.hostName.text.hasPrefix("veth") && link.hostName.text.utf8.count == 12)
    #expect(
      try Self.words(fixture.pod.ip("-4 route show")).sorted() == [
        "169.254.172.0/22 via 169.254.172.1 dev v4if0 src 169.254.172.7",
        "169.254.172.1 dev v4if0 scope link src 169.254.172.7", "default via 169.254.172.1 dev v4if0",
      ])
    #expect(
      try fixture.pod.ip("-4 -o addr show v4if0").contains("inet 169.254.172.7/22 brd 169.254.175.255 scope global"))
    #expect(
      try fixture.node.ip("-o addr show \(link.hostName)").split(separator: "\n").map(String.init)
        .filter { !$0.contains("inet 169.254.172.1/32 scope link") } == [], "no other address, IPv6 included")
    #expect(try Self.words(fixture.node.ip("-4 route show")) == ["169.254.172.7 dev \(link.hostName) scope link"])
    let host = try #require(try Link.find(named: link.hostName, on: try fixture.node.socket()))
    let pod = try #require(try Link.find(named: link.podName, on: try fixture.pod.socket()))
    #expect(host.mac == link.hostMAC && pod.mac == link.podMAC && host.mtu == 8000 && pod.mtu == 8000)
    #expect(host.isUp && pod.isUp && host.peerIndex == pod.index)
    let settings = try fixture.node.run {
      [
        try Sysctl(name: "net.ipv4.ip_forward").read(),
        try Sysctl("net", "ipv6", "conf", link.hostName.text, "accept_ra").read() ?? "0",
      ]
    }
    #expect(settings == ["1", "0"])
    #expect(try fixture.pod.command(["ping", "-c1", "-W2", "169.254.172.1"]).status == 0)
  }

  @Test(.enabled(if: hasIPv6()), arguments: ["0", "1"])
  func ipv6HasTheContractsState(isOffBefore: String) throws {
    let fixture = try EgressFixture()
    try fixture.pod.run {
      for name in ["all", "default"] { _ = try Sysctl("net", "ipv6", "conf", name, "disable_ipv6").write(isOffBefore) }
    }
    let link = try fixture.add(EgressFixture.network("fd00::ac:1f"))
    let router = try Self.words(fixture.node.ip("-6 -o addr show \(link.hostName)"))
    #expect(
      router.count == 1 && router[0].contains("inet6 fe80::") && router[0].contains("/128 scope link"), "\(router)")
    let address = try #require(router[0].split(separator: " ").first { $0.hasPrefix("fe80::") }).dropLast(4)
    let routes = try Self.words(fixture.pod.ip("-6 route show"))
    #expect(routes.contains { $0.hasPrefix("default via \(address) dev v6if0 metric 1024") }, "\(routes)")
    #expect(routes.contains { $0.hasPrefix("fd00::ac:0/118 dev v6if0 proto kernel") }, "\(routes)")
    let own = try fixture.pod.ip("-6 -o addr show v6if0 scope global")
    #expect(own.contains("fd00::ac:1f/118") && !own.contains("tentative"), "usable at once")
    #expect(try fixture.node.ip("-6 route show table main").contains("fd00::ac:1f dev \(link.hostName)"))
    #expect(try !fixture.node.ip("-6 route show table main").contains("fe80::/64 dev \(link.hostName)"))
    let settings = try fixture.pod.run {
      try ["eth0/disable_ipv6", "lo/disable_ipv6", "v6if0/disable_ipv6", "v6if0/keep_addr_on_down"].map {
        try Sysctl(name: "net/ipv6/conf/\($0)").read()
      }
    }
    #expect(settings == ["1", "0", "0", "1"])
    try fixture.node.ip("-6 addr add 2001:db8::4/128 dev lo")
    #expect(try fixture.pod.command(["ping", "-6", "-c1", "-W5", "2001:db8::4"]).status == 0)
  }

  @Test(arguments: ["169.254.172.7", "fd00::ac:7"])
  func theRouteOfADyingPodIsWaitedFor(address: String) async throws {
    let fixture = try EgressFixture()
    let network = EgressFixture.network(address)
    let old = try EgressFixture(fixture.node).add(network)
    let name = try #require(EgressNetwork.podName(network.address.family))
    // A thread of its own: once the new pair is there, the attempts have begun and end within half a second. The kernel
    // removes the route with the old link.
    async let removal: Void = TestThread.run {
      let (pod, node) = (try fixture.pod.socket(), try fixture.node.socket())
      while try Link.find(named: name, on: pod) == nil { sched_yield() }
      try node.perform(.deleteLink(old.hostIndex))
    }
    let link = try await TestThread.run { try fixture.add(network) }
    try await removal
    #expect(try fixture.node.ip("route get \(address)").contains("dev \(link.hostName)"))
  }

  @Test(arguments: ["169.254.172.7", "fd00::ac:7"])
  func aRouteThatStaysIsNamedAndNothingIsLeft(address: String) throws {
    let fixture = try EgressFixture()
    let other = try EgressFixture(fixture.node)
    let old = try other.add(EgressFixture.network(address))
    let before = try fixture.nodeState()
    let error = #expect(throws: PodNetworkError.self) { try fixture.add(EgressFixture.network(address)) }
    let text = "\(try #require(error))"
    #expect(text.hasPrefix("stale route still exists after 5 attempts"), "\(text)")
    #expect(text.contains("\(address) dev \(old.hostName)"), "\(text)")
    #expect(try fixture.nodeState() == before)
    #expect(try !fixture.pod.ip("link show").contains("if0"))
  }

  @Test func aMissingFirstInterfaceAndAnUnusableMTUAreErrors() throws {
    let fixture = try EgressFixture()
    let before = try fixture.nodeState()
    #expect(throws: PodNetworkError.self) { try fixture.add(EgressFixture.network("fd00::ac:7", mtu: 70000)) }
    try fixture.pod.ip("link del eth0")
    let error = #expect(throws: PodNetworkError.self) { try fixture.add(EgressFixture.network("fd00::ac:7")) }
    #expect(error?.attempt.hasPrefix("the pod has no interface eth0") == true, "\(String(describing: error))")
    #expect(try fixture.nodeState() == before)
  }

  @Test(.enabled(if: hasIPv6())) func aNodeWithoutIPv6IsNamed() throws {
    let fixture = try EgressFixture()
    try fixture.node.run {
      for name in ["all", "default"] { _ = try Sysctl("net", "ipv6", "conf", name, "disable_ipv6").write("1") }
    }
    let before = try fixture.nodeState()
    let error = #expect(throws: PodNetworkError.self) { try fixture.add(EgressFixture.network("fd00::ac:7")) }
    #expect(error?.attempt.contains("IPv6 is switched off on the node; set net.ipv6.conf.all") == true)
    #expect(try fixture.nodeState() == before)
    // IPv4 egress needs no IPv6.
    try fixture.add(EgressFixture.network("169.254.172.7"))
  }

  @Test(arguments: ["169.254.172.7", "fd00::ac:7"])
  func whatAnEarlierAttachmentLeftIsReplacedAndRemoved(address: String) throws {
    let fixture = try EgressFixture()
    let empty = try fixture.nodeState()
    let network = EgressFixture.network(address)
    try fixture.add(network)
    try fixture.node.run { try EgressNetwork.removeRoute(to: network.address, on: try NetlinkSocket()) }
    #expect(try !fixture.node.ip("-\(address.contains(":") ? 6 : 4) route show").contains(address))
    try fixture.node.run { try EgressNetwork.removeRoute(to: network.address, on: try NetlinkSocket()) }
    let again = try fixture.add(network)
    #expect(try fixture.node.ip("-brief link show type veth").split(separator: "\n").count == 1)
    #expect(try fixture.node.ip("route get \(address)").contains("dev \(again.hostName)"))
    let pod = try fixture.pod.socket()
    #expect(try EgressNetwork.removePair(network.address.family, pod: pod))
    #expect(try !EgressNetwork.removePair(network.address.family, pod: pod))
    #expect(try fixture.nodeState() == empty)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCLinux
import VPCModel

struct SysctlNameTests {
  @Test(arguments: [
    ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
    ("net/ipv4/conf/eth0.5/rp_filter", "net/ipv4/conf/eth0.5/rp_filter"),
    ("kernel/hostname", "kernel/hostname"),
  ])
  func aNameBecomesAPath(name: String, path: String) throws {
    #expect(try Sysctl(name: name).path == path)
  }

  @Test(arguments: [
    "", "/", "net//ipv4", "net..ipv4", "/etc/passwd", "net/../../etc/passwd", "net/ipv4/.", "net/ipv4/", "net/a b",
    "net/\u{0}", "net/é", String(repeating: "a", count: 65), "a/a/a/a/a/a/a/a/a/a/a/a/a",
  ])
  func anUnsoundNameIsRefused(name: String) {
    #expect(throws: Sysctl.InvalidName.self) { try Sysctl(name: name) }
  }

  @Test func aPartIsTakenAsItIs() throws {
    #expect(try Sysctl("net", "ipv4", "conf", "eth0.5", "mtu").path == "net/ipv4/conf/eth0.5/mtu")
    #expect(throws: Sysctl.InvalidName.self) { try Sysctl("net", "a/b") }
    #expect(throws: Sysctl.InvalidName.self) { try Sysctl("net", "..") }
  }

  @Test(arguments: [
    ("eth0", true), ("eni0123456789ab", true), ("eth0.5", true), ("a", true), ("vlan.eth.7", true), ("", false),
    ("eni0123456789abc", false), ("a/b", false), (".", false), ("..", false), ("a b", false), ("a:1", false),
    ("eth%d", false), ("é", false), ("a\u{0}", false), ("a\n", false),
  ])
  func interfaceNamesAreThoseOfTheKernel(text: String, isValid: Bool) {
    #expect((InterfaceName(text) != nil) == isValid)
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import TestSupport
import VPCLinux

/// The kernel tracks connections from their first packet while the table exists.
@Suite(.requiresRoot, .requires(program: "nft"), .requires(program: "ping"))
struct ConnectionTrackingTests {
  private let node: NamespaceFixture

  init() throws {
    node = try NamespaceFixture()
    _ = try node.ip("link set lo up")
  }

  /// The number of connections that the kernel tracks in the namespace after it pinged itself.
  private func tracked() throws -> Int {
    _ = try node.command(["ping", "-q", "-c", "1", "-w", "5", "127.0.0.1"]).get()
    let text = try node.command(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).get()
    return try #require(Int(text.split(separator: "\n").first ?? ""))
  }

  private func tables() throws -> String { try node.command(["nft", "list", "tables"]).get() }

  @Test func itHoldsWhileTheTableIsThere() throws {
    #expect(try tracked() == 0)
    for _ in 0..<2 { try node.run { try ConnectionTracking.begin() } }
    #expect(try tables().contains("table ip vpc-cni-start"))
    #expect(try tracked() == 1)
    for _ in 0..<2 { try node.run { try ConnectionTracking.end() } }
    #expect(try tables().isEmpty, "nothing is left")
  }

  /// Other programs' rules are not touched, and connection tracking stays on if those rules need it.
  @Test func othersKeepTheirs() throws {
    _ = try node.command(
      ["nft", "table ip others { chain c { type filter hook output priority 0; ct state new accept; }; }"]
    ).get()
    try node.run { try ConnectionTracking.begin() }
    try node.run { try ConnectionTracking.end() }
    #expect(try tables() == "table ip others\n")
    #expect(try tracked() == 1)
  }
}

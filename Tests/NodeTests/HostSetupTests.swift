// SPDX-License-Identifier: Apache-2.0

import Testing
import TestSupport
import VPCLinux
import VPCModel
import VPCSystem

@testable import InitMode

/// What the init container sets and copies.
@Suite struct HostSetupTests {
  static func wanted(
    _ environment: [String: String], others: [String] = [], agentSetsLater: Bool = true
  ) throws -> [String] {
    let settings = try NodeSettings(environment: environment)
    let primary = try #require(InterfaceName("ens5"))
    return try HostSettings(
      settings, primary: primary, others: others.compactMap(InterfaceName.init), agentSetsLater: agentSetsLater
    ).wanted
      .map { "\($0.sysctl)=\($0.value)" }
  }

  @Test(arguments: [
    ([:], ["net/ipv4/tcp_early_demux=1"]),
    (["DISABLE_TCP_EARLY_DEMUX": "true"], ["net/ipv4/tcp_early_demux=0"]),
    (
      ["ENABLE_V6_EGRESS": "true"],
      ["net/ipv4/tcp_early_demux=1", "net/ipv6/conf/ens5/accept_ra=2", "net/ipv6/conf/all/forwarding=1"]
    ),
    (
      ["ENABLE_IPv6": "true"],
      [
        "net/ipv4/tcp_early_demux=1", "net/ipv6/conf/all/disable_ipv6=0", "net/ipv6/conf/ens5/accept_ra=2",
        "net/ipv6/conf/all/forwarding=1",
      ]
    ),
  ])
  func kernelSettings(environment: [String: String], beside: [String]) throws {
    let primary = "net/ipv4/conf/ens5/rp_filter=2"
    #expect(try Self.wanted(environment) == [primary] + beside)
    // If the agent cannot write kernel settings, the default covers ENIs that are attached later.
    #expect(
      try Self.wanted(environment, agentSetsLater: false) == [primary, "net/ipv4/conf/default/rp_filter=2"] + beside)
  }

  @Test func everyAttachedENIHasALooseReversePath() throws {
    let wanted = try Self.wanted([:], others: ["ens6", "eth1.5"])
    #expect(Array(wanted.prefix(3)) == ["ens5", "ens6", "eth1.5"].map { "net/ipv4/conf/\($0)/rp_filter=2" })
  }

  @Test func whatTheHostHasStays() throws {
    let (imageFolder, hostFolder) = (TemporaryFolder(), TemporaryFolder())
    let (image, host) = (imageFolder.path, hostFolder.path)
    for name in ["loopback", "portmap"] {
      try AtomicFile.write(Array("ours \(name)".utf8), to: "\(image)/\(name)", mode: 0o755)
    }
    try AtomicFile.write(Array("theirs".utf8), to: "\(host)/portmap", mode: 0o700)

    let first = try CorePlugins.install(from: image, into: host)
    #expect(first.missing == ["loopback"] && first.present == ["portmap"])
    #expect(try BoundedFile.read("\(host)/portmap", limit: 100) == Array("theirs".utf8))
    #expect(try BoundedFile.read("\(host)/loopback", limit: 100) == Array("ours loopback".utf8))
    let second = try CorePlugins.install(from: image, into: host)
    #expect(second.missing.isEmpty && second.present == ["loopback", "portmap"])
  }

  @Test func aFolderThatIsNotThereIsNamed() throws {
    let error = #expect(throws: FileError.self) { try CorePlugins.install(from: "/nowhere/plugins", into: "/tmp") }
    #expect(try #require(error).description.contains("/nowhere/plugins"))
  }
}

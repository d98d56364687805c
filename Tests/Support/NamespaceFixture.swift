// SPDX-License-Identifier: Apache-2.0

import Glibc
package import VPCLinux
package import VPCModel

/// A network namespace for one test, with sockets and commands inside.
///
/// It has no name: it lives as long as this object (and whatever else holds it open). When the test ends, in whatever
/// way, the namespace disappears with everything in it. The two ends of a veth pair can be in two fixtures.
package final class NamespaceFixture: Sendable {
  package let namespace: NetworkNamespace

  /// Makes the namespace.
  ///
  /// - Parameters:
  ///   - setUp: command lines for `ip` to run inside, such as `rule add priority 7 lookup 7`.
  ///   - loopback: whether `lo` is up.
  package init(_ setUp: [String] = [], loopback: Bool = true) throws {
    namespace = try NetworkNamespace.create()
    if loopback { try ip("link set lo up") }
    for line in setUp { try ip(line) }
  }

  /// A path for a program that opens the namespace itself.
  package var path: String { namespace.path }

  /// A new netlink socket inside.
  package func socket() throws -> NetlinkSocket { try namespace.openSocket() }

  /// Creates a link that stands in for a network card: a veth, up and with a carrier.
  ///
  /// Not a dummy: not every kernel has that module. The other end is the link `far-NAME` in the same namespace. In
  /// another namespace it would disappear, and this link with it, as soon as nothing holds that namespace.
  /// - Parameter name: at most 11 bytes.
  @discardableResult
  package func addLink(_ name: String, mac: MACAddress? = nil) throws -> Link {
    guard let near = InterfaceName(name), let far = InterfaceName("far-\(name)") else {
      throw CommandResult.Failed(description: "not an interface's name: \(name)")
    }
    let socket = try socket()
    let made = try Link.createVeth(
      VethEnd(name: near, mac: mac, isUp: true), peer: VethEnd(name: far), in: namespace, on: socket)
    if let index = made.peerIndex { try socket.perform(.setUp(index)) }
    return made
  }

  /// Runs `body` inside, on a thread of its own.
  @discardableResult
  package func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    try namespace.run(body)
  }

  /// Runs `ip` inside with the words of `line`.
  ///
  /// - Returns: its output.
  /// - Throws: `CommandResult.Failed` if it fails.
  @discardableResult
  package func ip(_ line: String) throws -> String {
    try command(["ip"] + line.split(separator: " ").map(String.init)).get()
  }

  /// Runs a program inside, with a text as its input, and waits for it.
  package func command(_ words: [String], input: String = "") throws -> CommandResult {
    try namespace.run { try CommandResult.run(words, input: input) }
  }
}

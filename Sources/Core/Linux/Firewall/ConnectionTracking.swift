// SPDX-License-Identifier: Apache-2.0
internal import VPCModel

/// Connection tracking of the node, switched on before there are rules that need it.
///
/// The kernel tracks connections in a namespace while some rule there asks for it. On a node that has just booted, where
/// kube-proxy has not come yet, the agent's SNAT rules are the first. A connection of the node that was begun before
/// them is met in mid-stream then, taken for a new one, and given another source port: it is dead. So the agent has
/// its own connections tracked from their first packet: by a table with one rule that decides nothing, until its lasting
/// rules stand.
///
///     table ip vpc-cni-start { chain output { type filter hook output priority filter; ct mark } }
///
/// Both calls may block, and may be repeated. A table that a killed agent has left is taken away by the next one.
package enum ConnectionTracking {
  package static let table = NftablesTableID(family: .ipv4, name: "vpc-cni-start")

  private static var content: NftablesTable {
    NftablesTable(chains: [
      "output": NftablesChain(
        hook: NftablesHook(type: "filter", number: NftablesHook.output, priority: 0),
        rules: [NftablesRule([.conntrackLoad(key: NftablesExpression.conntrackMark)])])
    ])
  }

  /// Switches tracking on.
  ///
  /// - Throws: `NftablesError` where the kernel has no nftables or does not let us: connections are then as they were.
  package static func begin() throws(NftablesError) { try hold(content) }

  /// Takes the table away; tracking goes on where other rules ask for it.
  package static func end() throws(NftablesError) { try hold(nil) }

  private static func hold(_ content: NftablesTable?) throws(NftablesError) {
    _ = try NftablesSocket().converge([(table, content)])
  }
}

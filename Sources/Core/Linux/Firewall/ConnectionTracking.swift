// SPDX-License-Identifier: Apache-2.0
internal import CNetlink
internal import Glibc
package import VPCModel

/// Connection tracking of the node, enabled before the rules that need it exist.
///
/// The kernel tracks connections in a namespace only while a rule there needs it. On a freshly booted node without
/// kube-proxy, the agent's SNAT rules are the first. They would treat an older connection of the node as new and change
/// its source port, which breaks it. So the agent has its own connections tracked from their first packet: by a
/// temporary table with one rule without effect, until its permanent rules are in place.
///
///     table ip vpc-cni-start { chain output { type filter hook output priority filter; ct mark } }
///
/// Both calls may block, and may be repeated. The next agent removes a table left by a killed one.
package enum ConnectionTracking {
  package static let table = NftablesTableID(family: .ipv4, name: "vpc-cni-start")

  private static var content: NftablesTable {
    NftablesTable(chains: [
      "output": NftablesChain(
        hook: NftablesHook(type: "filter", number: NftablesHook.output, priority: 0),
        rules: [NftablesRule([.conntrackLoad(key: NftablesExpression.conntrackMark)])])
    ])
  }

  /// Enables tracking.
  ///
  /// - Throws: `NftablesError` if the kernel has no nftables or denies access: tracking is then unchanged.
  package static func begin() throws(NftablesError) { try hold(content) }

  /// Removes the table; tracking continues if other rules need it.
  package static func end() throws(NftablesError) { try hold(nil) }

  private static func hold(_ content: NftablesTable?) throws(NftablesError) {
    _ = try NftablesSocket().converge([(table, content)])
  }
}

extension ConnectionTracking {
  /// Whether the node tracks a connection that carries this mark. The kernel picks them out.
  ///
  /// - Throws: `NetlinkError` if the kernel does not answer.
  package static func hasConnections(marked mark: PacketMark) throws(NetlinkError) -> Bool {
    let socket = try NetlinkSocket(family: NETLINK_NETFILTER)
    // struct nfgenmsg: the family, version 0, no resource.
    let header: (UInt8, UInt8, UInt16) = (UInt8(AF_INET), 0, 0)
    let message = NetlinkMessage(Int(NFNL_SUBSYS_CTNETLINK) << 8 | getConnections, header: header)
    message.put(connectionMark, mark.value.bigEndian)
    message.put(connectionMarkMask, mark.mask.bigEndian)
    var isFound = false
    let request = NetlinkRequest(message: message, text: { "list connections with the mark \(mark)" })
    _ = try socket.dump(request) { (reply) throws(NetlinkError) -> Bool? in
      // A kernel without mark filters lists all connections: each is checked here.
      reply.forEachAttribute(after: nfgenmsg.self) { type, value in
        guard type == connectionMark, let found = value.uint32.map({ UInt32(bigEndian: $0) }) else { return }
        if found & mark.mask == mark.value { isFound = true }
      }
      return nil
    }
    return isFound
  }

  // IPCTNL_MSG_CT_GET, CTA_MARK and CTA_MARK_MASK of linux/netfilter/nfnetlink_conntrack.h, which Swift cannot import
  // beside linux/netfilter.h.
  private static let getConnections = 1
  private static let connectionMark = 8
  private static let connectionMarkMask = 21
}

// SPDX-License-Identifier: Apache-2.0

internal import CNetlink
internal import Glibc
internal import VPCModel

/// A chain that drops forwarded packets unless one of its rules accepts them. Packets from and to pods are forwarded.
package struct ForwardPolicy: Sendable, Hashable, Comparable, CustomStringConvertible {
  /// `iptables-legacy filter FORWARD`, `ip filter FORWARD`, `inet firewall forward`.
  package let chain: String

  package init(chain: String) { self.chain = chain }

  package var description: String { chain }

  package static func < (left: ForwardPolicy, right: ForwardPolicy) -> Bool { left.chain < right.chain }

  /// iptables-legacy's; the ones of iptables-nft are chains of nftables.
  package static let legacy = ForwardPolicy(chain: "iptables-legacy filter FORWARD")
}

extension NftablesSocket {
  /// A node has a few; more are not reported.
  private static var limit: Int { 16 }

  /// The chains at the forward hook that see IPv4 and have policy drop, of any table.
  ///
  /// - Throws: `.interrupted` if the list changed while it was read; `.refused`.
  package func droppingForwardChains() throws(NftablesError) -> [ForwardPolicy] {
    var found: Set<ForwardPolicy> = []
    try request(NFT_MSG_GETCHAIN, family: 0, flags: UInt16(NLM_F_DUMP), what: "list the chains of nftables") { _ in
    } each: { message in
      guard let object = cnft_nftnl_chain_alloc() else { return }
      defer { cnft_nftnl_chain_free(object) }
      guard cnft_nftnl_chain_nlmsg_parse(message, object) >= 0 else { return }
      let number = { (attribute: nftnl_chain_attr) in cnft_nftnl_chain_get_u32(object, UInt16(attribute.rawValue)) }
      let text = { (attribute: nftnl_chain_attr) in
        cnft_nftnl_chain_get_str(object, UInt16(attribute.rawValue)).map { String(cString: $0) } ?? ""
      }
      // NFPROTO_INET is 1, NFPROTO_IPV4 2; NF_DROP is 0, as is the policy of a chain without one.
      guard cnft_nftnl_chain_is_set(object, UInt16(NFTNL_CHAIN_HOOKNUM.rawValue)),
        number(NFTNL_CHAIN_HOOKNUM) == NftablesHook.forward, [1, 2].contains(number(NFTNL_CHAIN_FAMILY)),
        cnft_nftnl_chain_is_set(object, UInt16(NFTNL_CHAIN_POLICY.rawValue)), number(NFTNL_CHAIN_POLICY) == 0,
        found.count < NftablesSocket.limit
      else { return }
      let family = number(NFTNL_CHAIN_FAMILY) == 1 ? "inet" : "ip"
      found.insert(ForwardPolicy(chain: "\(family) \(text(NFTNL_CHAIN_TABLE)) \(text(NFTNL_CHAIN_NAME))"))
    }
    return found.sorted()
  }
}

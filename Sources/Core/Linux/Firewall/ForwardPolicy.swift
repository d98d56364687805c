// SPDX-License-Identifier: Apache-2.0

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

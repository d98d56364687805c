// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// Which of a node's firewalls holds the rules of `HostRules`.
package enum FirewallBackend: String, Sendable, Hashable, CaseIterable {
  case legacy = "iptables-legacy"
  case nft = "iptables-nft"
  /// Tables of nftables alone: there is no usable iptables.
  case nftables = "nftables"

  package init(_ backend: IptablesBackend) { self = backend == .nft ? .nft : .legacy }
}

/// What one application of the node's rules found and did.
package struct FirewallReport: Sendable {
  package let backend: FirewallBackend
  /// Where connections are marked: `iptables` or `nftables`; nil where nothing marks them, with external SNAT.
  package let connmark: String?
  /// What was written, in words; empty where all was in place.
  package internal(set) var changes: [String] = []
  /// The rules stand elsewhere than at the last application, or are others, or are applied for the first time: what changed
  /// was undone by nobody.
  package internal(set) var isMove = false
  /// What held rules of ours until now, and does not any more.
  package internal(set) var left: [IptablesBackend] = []
  /// Why the rules stand in nftables on a node that has an iptables, or why one without has none.
  package internal(set) var substitutes: IptablesError?
  /// Why the rules stand in an iptables that kubelet does not use.
  package internal(set) var fallback: IptablesError?
  /// What could not be done. The rules may be in place all the same, where what is left is to clean up.
  package internal(set) var failures: [any CausedError] = []
  /// The iptables is too old for `--random-fully`; `--random` is used.
  package internal(set) var usesHashedPorts = false
  /// Chains that drop forwarded packets by their policy.
  package internal(set) var droppingForward: [ForwardPolicy] = []

  package init(backend: FirewallBackend, connmark: String?, droppingForward: [ForwardPolicy] = []) {
    self.backend = backend
    self.connmark = connmark
    self.droppingForward = droppingForward
  }

  /// Nothing is left to try again.
  package var isComplete: Bool { failures.isEmpty && !((substitutes ?? fallback)?.isTransient ?? false) }
}

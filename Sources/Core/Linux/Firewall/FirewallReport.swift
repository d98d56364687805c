// SPDX-License-Identifier: Apache-2.0
package import VPCModel

/// Which of a node's firewalls holds the rules of `HostRules`.
package enum FirewallBackend: String, Sendable, Hashable, CaseIterable {
  case legacy = "iptables-legacy"
  case nft = "iptables-nft"
  /// Only nftables tables: there is no usable iptables.
  case nftables = "nftables"

  package init(_ backend: IptablesBackend) { self = backend == .nft ? .nft : .legacy }
}

/// The report of one application of the node's rules.
package struct FirewallReport: Sendable {
  package let backend: FirewallBackend
  /// Where connections are marked: `iptables` or `nftables`; nil with external SNAT, which needs no marks.
  package let connmark: String?
  /// What was written, in words; empty if all was in place.
  package internal(set) var changes: [String] = []
  /// The rules moved, differ from the last application, or are applied for the first time: the changes are no repair.
  package internal(set) var isMove = false
  /// The backends that held the rules until now.
  package internal(set) var left: [IptablesBackend] = []
  /// Why the rules are in nftables: the error of iptables.
  package internal(set) var substitutes: IptablesError?
  /// Why the rules are in an iptables backend that kubelet does not use.
  package internal(set) var fallback: IptablesError?
  /// What failed. The rules may still be in place if only the cleanup failed.
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

  /// Nothing is left to retry.
  package var isComplete: Bool { failures.isEmpty && !((substitutes ?? fallback)?.isTransient ?? false) }
}

// SPDX-License-Identifier: Apache-2.0

extension IptablesBackend {
  /// The input of the choice: the output of each backend's iptables-save; nil if the program is missing or does not
  /// work here.
  package struct Evidence: Sendable, Hashable {
    package var nft: IptablesSave?
    package var legacy: IptablesSave?

    package init(nft: IptablesSave? = nil, legacy: IptablesSave? = nil) {
      self.nft = nft
      self.legacy = legacy
    }

    package subscript(backend: IptablesBackend) -> IptablesSave? { backend == .nft ? nft : legacy }
  }

  /// The backend that the node's kubelet uses, so that the agent's rules are beside kube-proxy's; nil if the node has
  /// neither.
  ///
  /// Kubelet leaves a chain in mangle for this purpose. Without it, the backend with more foreign rules is chosen. If
  /// that does not decide either, the current one stays, and nft is the default.
  ///
  /// - Parameter current: the backend with the agent's rules. Without kubelet's chain, it is left only if no other
  ///   program uses it, so that rules do not move back and forth. Source: kubernetes-sigs/iptables-wrappers; Kubernetes
  ///   enhancement 3178.
  package static func choose(_ evidence: Evidence, current: IptablesBackend? = nil) -> IptablesBackend? {
    if evidence.nft?.hasHint ?? false { return .nft }
    if evidence.legacy?.hasHint ?? false { return .legacy }
    guard let nft = evidence.nft else { return evidence.legacy == nil ? nil : .legacy }
    guard let legacy = evidence.legacy else { return .nft }
    if let current, let inUse = evidence[current] {
      let isUsedByNobody = nft.foreignRules == 0 && legacy.foreignRules == 0
      if isUsedByNobody || inUse.foreignRules > 0 { return current }
    }
    return legacy.foreignRules > nft.foreignRules ? .legacy : .nft
  }
}

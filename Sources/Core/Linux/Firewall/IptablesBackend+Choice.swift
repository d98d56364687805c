// SPDX-License-Identifier: Apache-2.0

extension IptablesBackend {
  /// What the choice is made from: what each backend's iptables-save prints; nil where there is no such program or it
  /// does not work here.
  package struct Evidence: Sendable, Hashable {
    package var nft: IptablesSave?
    package var legacy: IptablesSave?

    package init(nft: IptablesSave? = nil, legacy: IptablesSave? = nil) {
      self.nft = nft
      self.legacy = legacy
    }

    package subscript(backend: IptablesBackend) -> IptablesSave? { backend == .nft ? nft : legacy }
  }

  /// The backend that the node's kubelet uses, so that our rules stand beside kube-proxy's; nil where the node has
  /// neither.
  ///
  /// Kubelet leaves a chain in mangle for this purpose. Without one, the backend with more rules of others. Where that
  /// does not tell either, the one in use stays, and nft is the first to be used.
  ///
  /// - Parameter current: where our rules stand. It is left for another without kubelet's chain only where nobody else
  ///   uses it, so that rules of ours and of others do not move to and fro.
  /// Source: kubernetes-sigs/iptables-wrappers; Kubernetes enhancement 3178.
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

// SPDX-License-Identifier: Apache-2.0

extension IptablesBackend {
  /// What the choice is made from.
  package struct Evidence: Sendable, Hashable {
    /// What `iptables-nft-save -t mangle` prints; nil where there is no such program or it failed.
    package var nftMangle: String?
    /// What `iptables-legacy-save` prints, without `-t`, which would load the tables; nil as above.
    package var legacy: String?

    package init(nftMangle: String? = nil, legacy: String? = nil) {
      self.nftMangle = nftMangle
      self.legacy = legacy
    }
  }

  /// The backend that the node's kubelet uses, so that our rules stand beside kube-proxy's; nil where the node has
  /// neither.
  ///
  /// Kubelet leaves a chain in mangle for this purpose. Without one, the backend with more rules; nft where that does
  /// not tell either.
  /// Source: kubernetes-sigs/iptables-wrappers; Kubernetes enhancement 3178.
  package static func choose(_ evidence: Evidence) -> IptablesBackend? {
    if evidence.nftMangle.map(hasHint) ?? false { return .nft }
    if evidence.legacy.map(hasHint) ?? false { return .legacy }
    switch (evidence.nftMangle, evidence.legacy) {
    case (nil, nil): return nil
    case (nil, _): return .legacy
    case (_, nil): return .nft
    case (let nft?, let legacy?): return rules(legacy) > rules(nft) ? .legacy : .nft
    }
  }

  private static func hasHint(_ text: String) -> Bool {
    text.split(separator: "\n").contains {
      $0.hasPrefix(":KUBE-IPTABLES-HINT ") || $0.hasPrefix(":KUBE-KUBELET-CANARY ")
    }
  }

  private static func rules(_ text: String) -> Int { text.split(separator: "\n").count { $0.hasPrefix("-") } }

  /// Looks at the node and chooses. Writes nothing and loads no table.
  ///
  /// - Returns: nil where no iptables program works here.
  package static func detect(_ runner: any CommandRunner = SpawnedCommand()) -> IptablesBackend? {
    var evidence = Evidence()
    // To this question a program that is missing and one that fails say the same: not with this backend.
    evidence.nftMangle = try? Iptables(backend: .nft, runner: runner).saveText(table: "mangle")
    if evidence.nftMangle.map(hasHint) ?? false { return .nft }
    evidence.legacy = try? Iptables(backend: .legacy, runner: runner).saveText(table: nil)
    return choose(evidence)
  }
}

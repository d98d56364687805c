// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

extension HostRules {
  /// The nat table during a change of the destinations without translation, or when translation starts or stops, while
  /// connection marks are in nftables: there are two transactions, and no packet may see half of the change.
  ///
  /// A connection with only a translation or only a mark leaves by an ENI that does not own its source. The VPC drops
  /// it, and conntrack keeps the decision while the connection is retried. So translation temporarily depends on the
  /// mark: this is written first, then the marks, then the final rules.
  ///
  /// - Returns: nil on a fresh node, if the destinations stay the same, or if the marks are in iptables too: then one
  ///   transaction changes both.
  package func bridge(from present: IptablesTable) -> IptablesPlan? {
    let chains = present.chains.filter(IptablesPlan.owns(chain:))
    guard connmarkBackend == .nftables, chains == [Name.snatChain] else { return nil }
    let old = SNATChain(present.rules.filter { $0.chain == Name.snatChain }.map(\.words))
    let new = SNATChain(snatChain)
    guard !(old.translation + new.translation).isEmpty else { return nil }
    let returns: [[String]]
    if old.translation.isEmpty {
      returns = new.returns
    } else if new.translation.isEmpty {
      returns = old.returns
    } else {
      guard old.destinations != new.destinations else { return nil }
      returns = new.returns.filter { old.destinations.contains(SNATChain.destination($0)) }
    }
    let unmarked =
      ["-m", "connmark", "!", "--mark", connmark.description] + comment("AWS, not marked") + ["-j", "RETURN"]
    let translation = new.translation.isEmpty ? old.translation : new.translation
    return IptablesPlan(
      table: "nat", chains: [Name.snatChain: returns + [unmarked] + translation], rules: [snatJump])
  }
}

/// The rules of AWS-SNAT-CHAIN-0, by what they do.
private struct SNATChain {
  /// For destinations that are not translated.
  let returns: [[String]]
  /// Rules that translate the rest, with their exceptions.
  let translation: [[String]]

  init(_ rules: [[String]]) {
    let target = { (words: [String]) in IptablesRule("", words).target }
    let isOwn = { (words: [String]) in words.contains(HostRules.Name.limitedToOutput) }
    returns = rules.filter { target($0) == "RETURN" && !isOwn($0) }
    translation = rules.filter { target($0) == "SNAT" || isOwn($0) }
  }

  var destinations: Set<String> { Set(returns.map(SNATChain.destination)) }

  /// iptables-save does not print 0.0.0.0/0.
  static func destination(_ words: [String]) -> String { IptablesRule("", words).value(of: "-d") ?? "0.0.0.0/0" }
}

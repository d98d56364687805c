// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The relevant facts from the output of iptables-save for all tables.
///
/// On a node with thousands of services the text has megabytes: only lines that may concern the agent are parsed.
package struct IptablesSave: Sendable, Hashable {
  /// By name, with all chains and the rules that concern the agent.
  private var tables: [String: IptablesTable] = [:]
  /// Tables with rules that only nft can show: iptables-nft cannot change them either.
  package private(set) var unreadable: Set<String> = []
  /// Kubelet's chain is there: it uses this backend.
  package private(set) var hasHint = false
  /// Foreign rules.
  package private(set) var foreignRules = 0
  /// The agent's rules and chains, of this release or an older one.
  package private(set) var ownedObjects = 0
  /// The policy of FORWARD in the filter table is DROP.
  package private(set) var dropsForward = false

  /// Chains of mangle by which kubelet shows which backend it uses.
  static let hints: Set<String> = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"]

  /// Every chain and comment of the contract in nat and mangle contains it.
  private static let mark = Array("AWS".utf8)

  /// The beginning of the filter table's only line that concerns the agent, in either family.
  private static let nodeLocal = AddressFamily.allCases.map {
    "-A FORWARD -d \(IptablesPlan.nodeLocalRange($0)) "
  }

  package init(_ text: String) {
    var table = ""
    for line in text.split(separator: "\n") {
      switch line.utf8.first {
      case UInt8(ascii: "*"):
        table = String(line.dropFirst())
        tables[table] = IptablesTable(name: table)
      case UInt8(ascii: ":"):
        readChain(line.dropFirst(), of: table)
      case UInt8(ascii: "-"):
        readRule(line, of: table)
      case UInt8(ascii: "#"):
        // `# Table `nat' is incompatible, use 'nft' tool.`, and the program succeeds.
        guard line.hasPrefix("# Table `"), line.contains("is incompatible") else { continue }
        unreadable.insert(String(line.dropFirst(9).prefix { $0 != "'" }))
      default: continue
      }
    }
  }

  /// The agent's part of a table, with the names of all chains; empty if no rule was ever set.
  package func table(_ name: String) -> IptablesTable { tables[name] ?? IptablesTable(name: name) }

  private mutating func readChain(_ line: Substring, of table: String) {
    let words = line.split(separator: " ", maxSplits: 2)
    guard words.count > 1 else { return }
    let name = String(words[0])
    tables[table]?.chains.append(name)
    if table == "mangle", IptablesSave.hints.contains(name) { hasHint = true }
    if table == "filter", name == "FORWARD", words[1] == "DROP" { dropsForward = true }
    if IptablesPlan.owns(chain: name) { ownedObjects += 1 }
  }

  private mutating func readRule(_ line: Substring, of table: String) {
    let isOfInterest =
      table == "filter" ? IptablesSave.nodeLocal.contains(where: line.hasPrefix) : line.utf8.contains(IptablesSave.mark)
    guard isOfInterest, let words = IptablesRule.split(line), words.count > 2, words[0] == "-A" else {
      return foreignRules += 1
    }
    let rule = IptablesRule(words[1], Array(words.dropFirst(2)))
    tables[table]?.rules.append(rule)
    let isOwned = IptablesPlan.owns(rule: rule) || IptablesPlan.owns(chain: rule.chain)
    if isOwned { ownedObjects += 1 } else { foreignRules += 1 }
  }
}

extension Substring.UTF8View {
  /// Whether a word is in it.
  ///
  /// - Parameter word: not empty.
  func contains(_ word: [UInt8]) -> Bool {
    guard let first = word.first else { return false }
    var rest = self[...]
    while let start = rest.firstIndex(of: first) {
      rest = rest[start...]
      if rest.starts(with: word) { return true }
      rest = rest.dropFirst()
    }
    return false
  }
}

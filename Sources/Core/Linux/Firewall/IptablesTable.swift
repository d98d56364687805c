// SPDX-License-Identifier: Apache-2.0

/// A rule as iptables-save prints it: the chain, and the words after it.
package struct IptablesRule: Sendable, Hashable {
  package let chain: String
  /// Without `-A CHAIN`; quotes taken off.
  package let words: [String]

  package init(_ chain: String, _ words: [String]) {
    self.chain = chain
    self.words = words
  }

  /// The words after an option's first occurrence: `after("-j")`.
  package func value(of option: String) -> String? {
    guard let index = words.firstIndex(of: option), index + 1 < words.count else { return nil }
    return words[index + 1]
  }

  /// The chain or target that a packet goes to: `-j` or `-g`.
  package var target: String? { value(of: "-j") ?? value(of: "-g") }

  package var comment: String? { value(of: "--comment") }

  /// As iptables-restore reads it, after a command such as `-A`.
  package func line(_ command: String) -> String {
    ([command, chain] + words.map(IptablesRule.quote)).joined(separator: " ")
  }

  /// iptables-save's quoting: anything but a plain word is in double quotes.
  static func quote(_ word: String) -> String {
    let plain = word.utf8.allSatisfy {
      48...57 ~= $0 || 65...90 ~= $0 || 97...122 ~= $0 || "_-./:,+!=@%".utf8.contains($0)
    }
    guard !plain || word.isEmpty else { return word }
    var text = "\""
    for character in word {
      if character == "\"" || character == "\\" || character == "'" { text.append("\\") }
      text.append(character)
    }
    return text + "\""
  }

  /// The words of a line of iptables-save; nil if a quote does not end.
  static func split(_ line: Substring) -> [String]? {
    var words: [String] = []
    var word = ""
    var inside = false
    var started = false
    var escaped = false
    for character in line {
      if escaped {
        word.append(character)
        escaped = false
      } else if inside && character == "\\" {
        escaped = true
      } else if character == "\"" {
        inside.toggle()
        started = true
      } else if character == " " && !inside {
        if started || !word.isEmpty { words.append(word) }
        word = ""
        started = false
      } else {
        word.append(character)
      }
    }
    guard !inside && !escaped else { return nil }
    if started || !word.isEmpty { words.append(word) }
    return words
  }
}

/// One table as iptables-save prints it.
package struct IptablesTable: Sendable, Hashable {
  /// `nat`, `mangle`.
  package let name: String
  /// In the printed order.
  package var chains: [String]
  package var rules: [IptablesRule]

  package init(name: String, chains: [String] = [], rules: [IptablesRule] = []) {
    self.name = name
    self.chains = chains
    self.rules = rules
  }

  /// Parses the table from iptables-save's output; empty if it is missing (no rule was ever set).
  ///
  /// Counters, comments and other tables are skipped. An unknown line is left out of the result and so stays unchanged:
  /// it is foreign.
  package init(name: String, saveText: String) {
    self.init(name: name)
    var inside = false
    for line in saveText.split(separator: "\n") {
      switch line.first {
      case "*": inside = line.dropFirst() == name
      case ":" where inside:
        chains.append(String(line.dropFirst().prefix { $0 != " " }))
      case "-" where inside:
        guard let words = IptablesRule.split(line), words.count > 2, words[0] == "-A" else { continue }
        rules.append(IptablesRule(words[1], Array(words.dropFirst(2))))
      case "[" where inside:
        // With counters: `[1:60] -A …`.
        guard let words = IptablesRule.split(line), words.count > 3, words[1] == "-A" else { continue }
        rules.append(IptablesRule(words[2], Array(words.dropFirst(3))))
      default: continue
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

/// One role of the binary as people see it.
package struct ModeDescription: Sendable, Hashable {
  /// The first argument that chooses it.
  package let subcommand: String
  /// The names it is installed under.
  package let names: [String]
  package let summary: String
  /// The text of `help MODE` before the list of options, or instead of it.
  package let details: String
  /// Nil for a mode that programs call and that reads its input in its own way.
  package let syntax: CommandSyntax?

  package init(
    subcommand: String, names: [String], summary: String, details: String = "", syntax: CommandSyntax? = nil
  ) {
    self.subcommand = subcommand
    self.names = names
    self.summary = summary
    self.details = details
    self.syntax = syntax
  }

  /// The text of `help MODE`, with a line feed at the end.
  package var help: String {
    var text = "usage: vpc-cni \(subcommand)"
    if let syntax {
      text += " [OPTION ...]"
      if syntax.operandLimit > 0 { text += " [\(syntax.operands.joined(separator: "|"))]" }
    }
    text += "\n\n\(summary.prefix(1).uppercased())\(summary.dropFirst())."
    if !names.isEmpty { text += " Installed as \(names.joined(separator: ", "))." }
    text += "\n"
    if !details.isEmpty { text += "\n\(details)\n" }
    guard let syntax else { return text }
    let width = (syntax.options.map(\.form.count).max() ?? 0) + 2
    text += "\n"
    for option in syntax.options {
      text += "  \(option.form)\(String(repeating: " ", count: width - option.form.count))\(option.help)\n"
    }
    return text
  }
}

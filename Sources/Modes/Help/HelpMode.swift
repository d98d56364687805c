// SPDX-License-Identifier: Apache-2.0

package import VPCModel
internal import VPCSystem

/// `vpc-cni help`, `version` and `completion`.
package enum HelpMode {
  /// Lists all modes, or explains one.
  ///
  /// - Parameter modes: all that the binary has, in the order in which they are shown.
  /// - Returns: 64 for a mode that does not exist.
  package static func help(arguments: [String], modes: [ModeDescription]) -> Int32 {
    guard let asked = arguments.first(where: { !$0.hasPrefix("-") }) else {
      Terminal.say(overview(of: modes))
      return 0
    }
    guard let mode = modes.first(where: { $0.subcommand == asked || $0.names.contains(asked) }) else {
      Terminal.complain("vpc-cni help: no mode \"\(asked.prefix(64))\"\n\n\(overview(of: modes))")
      return 64
    }
    Terminal.say(mode.help)
    return 0
  }

  /// The message on standard error if neither the name nor the first argument is a mode. Exit status 64 is EX_USAGE of
  /// sysexits.h.
  package static func refuse(_ words: [String], modes: [ModeDescription]) -> Int32 {
    let what = words.count > 1 ? "vpc-cni: no mode \"\(words[1].prefix(64))\"\n\n" : ""
    Terminal.complain(what + overview(of: modes))
    return 64
  }

  static func overview(of modes: [ModeDescription]) -> String {
    let width = (modes.map(\.subcommand.count).max() ?? 0) + 2
    let rows = modes.map { mode in
      "  \(mode.subcommand)\(String(repeating: " ", count: width - mode.subcommand.count))\(mode.summary)"
        + (mode.names.isEmpty ? "" : " (as \(mode.names.joined(separator: ", ")))") + "\n"
    }
    return """
      usage: vpc-cni MODE [ARGUMENT ...]

      \(rows.joined())
      vpc-cni help MODE explains one mode.

      """
  }

  /// `vpc-cni version`.
  package static func version(arguments: [String]) -> Int32 {
    versionDescription.run(arguments, versionSyntax) { given in
      let facts = BuildFacts.own
      Terminal.say(given.has("json") ? facts.json.indented(by: 2) + "\n" : facts.text)
      return 0
    }
  }

  /// `vpc-cni completion SHELL`.
  package static func completion(arguments: [String], modes: [ModeDescription]) -> Int32 {
    completionDescription.run(arguments, completionSyntax) { given throws(CommandSyntax.Refusal) in
      guard let name = given.operands.first, let shell = Completion.Shell(rawValue: name) else {
        let shells = completionSyntax.operands.joined(separator: ", ")
        throw completionSyntax.refusal("name one shell: \(shells)")
      }
      Terminal.say(Completion(modes: modes).script(for: shell))
      return 0
    }
  }

  private static let versionSyntax = CommandSyntax(
    mode: "version", options: [.flag("json", "print JSON")])
  private static let completionSyntax = CommandSyntax(
    mode: "completion", options: [], operands: Completion.Shell.allCases.map(\.rawValue), operandLimit: 1)

  package static let helpDescription = ModeDescription(
    subcommand: "help", names: [], summary: "lists the modes, or explains one", details: "vpc-cni help MODE")
  package static let versionDescription = ModeDescription(
    subcommand: "version", names: [], summary: "prints the release and how it was built",
    syntax: versionSyntax)
  package static let completionDescription = ModeDescription(
    subcommand: "completion", names: [], summary: "prints a shell's completions",
    details: """
      bash:  source <(vpc-cni completion bash)
      zsh:   vpc-cni completion zsh > "${fpath[1]}/_vpc-cni"
      fish:  vpc-cni completion fish > ~/.config/fish/completions/vpc-cni.fish
      """, syntax: completionSyntax)
}

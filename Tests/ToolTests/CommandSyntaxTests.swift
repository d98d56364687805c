// SPDX-License-Identifier: Apache-2.0

import Testing
import TestSupport
import VPCModel
import VPCSystem

@testable import HelpMode

/// Options: parsing, help, and shell completion.
@Suite struct CommandSyntaxTests {
  static let syntax = CommandSyntax(
    mode: "doctor",
    options: [
      .flag("json", "as JSON"), .value("level", "LEVEL", "how much", choices: ["low", "high"]),
      .value("output", "DIRECTORY", "where to", isPath: true),
    ], operands: ["one", "two"], operandLimit: 1)

  static let modes = [
    ModeDescription(subcommand: "plugin", names: ["aws-cni"], summary: "CNI plugin"),
    ModeDescription(subcommand: "doctor", names: [], summary: "finds what's wrong", syntax: syntax),
    HelpMode.helpDescription,
  ]

  @Test func readsEveryForm() throws {
    let given = try Self.syntax.read(["--level", "low", "one", "--output=/x=y", "--json"])
    #expect(given["level"] == "low" && given["output"] == "/x=y" && given.has("json") && given.operands == ["one"])
    #expect(try Self.syntax.read(["-h"]).has("help"))
    #expect(try Self.syntax.read(["--", "--json"]).operands == ["--json"])
    #expect(try Self.syntax.read([]) == CommandArguments())
  }

  @Test(arguments: [
    (
      ["--nothing"],
      "vpc-cni doctor: unknown option --nothing; there are --json, --level=LEVEL, --output=DIRECTORY, --help"
    ),
    (["-json"], "vpc-cni doctor: unknown option -json; there are --json, --level=LEVEL, --output=DIRECTORY, --help"),
    (["--json", "--json"], "vpc-cni doctor: --json is given twice"),
    (["--json=1"], "vpc-cni doctor: --json takes no value"),
    (["--output"], "vpc-cni doctor: --output needs a value: --output=DIRECTORY"),
    (["--output="], "vpc-cni doctor: --output needs a value: --output=DIRECTORY"),
    (["--level=mid"], "vpc-cni doctor: --level=mid: LEVEL is one of low, high"),
    (
      ["one", "two"],
      "vpc-cni doctor: unexpected argument \"two\"; options are --json, --level=LEVEL, --output=DIRECTORY, --help"
    ),
  ])
  func refusalsNameTheRemedy(_ arguments: [String], _ text: String) {
    let refusal = #expect(throws: CommandSyntax.Refusal.self) { try Self.syntax.read(arguments) }
    #expect(refusal?.description == text)
  }

  @Test func numbersHaveARange() throws {
    let given = try Self.syntax.read(["--output=7"])
    #expect(try given.number("output", in: 1...10, Self.syntax) == 7)
    #expect(throws: CommandSyntax.Refusal.self) { try given.number("output", in: 1...6, Self.syntax) }
    #expect(try given.number("level", in: 1...6, Self.syntax) == nil)
  }

  @Test func helpListsNamesAndOptions() {
    #expect(HelpMode.overview(of: Self.modes).contains("  plugin  CNI plugin (as aws-cni)\n"))
    #expect(
      Self.modes[1].help == """
        usage: vpc-cni doctor [OPTION ...] [one|two]

        Finds what's wrong.

          --json              as JSON
          --level=LEVEL       how much
          --output=DIRECTORY  where to
          --help              show this

        """)
  }

  /// Bash itself completes the line.
  @Test(
    .requires(program: "bash"),
    arguments: [
      ([""], ["plugin", "doctor", "help"]), (["do"], ["doctor"]),
      (["doctor", "--"], ["--json", "--level=", "--output=", "--help"]), (["doctor", "--le"], ["--level="]),
      (["doctor", "--level", "="], ["low", "high"]), (["doctor", "--level", "=", "h"], ["high"]),
      (["doctor", "o"], ["one"]), (["help", "pl"], ["plugin"]), (["plugin", ""], []),
    ])
  func bashCompletes(_ words: [String], _ offered: [String]) throws {
    let line = (["vpc-cni"] + words).map { "'\($0)'" }.joined(separator: " ")
    let program = """
      compopt() { :; }
      \(Completion(modes: Self.modes).script(for: .bash))
      COMP_WORDS=(\(line)); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _vpc_cni
      printf '%s\\n' "${COMPREPLY[@]}"
      """
    let lines = try CommandResult.run(["bash", "-u", "-c", program]).get().split(separator: "\n").map(String.init)
    #expect(lines == offered)
  }

  /// If the shells are installed, they at least parse the script.
  @Test(.requires(program: "zsh")) func zshReadsIt() throws {
    let script = Completion(modes: Self.modes).script(for: .zsh)
    #expect(try CommandResult.run(["zsh", "-n"], input: script).status == 0)
  }

  @Test(.requires(program: "fish")) func fishReadsIt() throws {
    let script = Completion(modes: Self.modes).script(for: .fish)
    #expect(try CommandResult.run(["fish", "--no-execute"], input: script).status == 0)
  }

  @Test func buildFactsAreReadOutOfAMark() {
    let mark = String(decoding: BuildFacts.marker, as: UTF8.self)
    #expect(BuildFacts.commit(inMark: mark + "abc123-dirty") == "abc123-dirty")
    #expect(BuildFacts.commit(inMark: mark + "unknown") == "unknown")
    for bad in ["", mark, mark + "UPPER", mark + "a b", mark + String(repeating: "a", count: 61), "x" + mark + "a"] {
      #expect(BuildFacts.commit(inMark: bad) == nil)
    }
  }
}

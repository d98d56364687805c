// SPDX-License-Identifier: Apache-2.0
//
// The options of the command-line modes: declared once, then parsed, explained by `help` and offered by shell
// completions. A library would cost every pod start too much (docs/decisions/0033).

/// One option, `--name` or `--name=VALUE`.
package struct CommandOption: Sendable, Hashable {
  package let name: String
  /// The placeholder of the value in help, in capitals; nil for an option without one.
  package let value: String?
  /// The values that may be given; empty: any text.
  package let choices: [String]
  /// The value names a file or folder: shells complete paths.
  package let isPath: Bool
  package let help: String

  /// An option without a value.
  package static func flag(_ name: String, _ help: String) -> CommandOption {
    CommandOption(name: name, value: nil, choices: [], isPath: false, help: help)
  }

  /// An option with a value: any text, one of `choices`, or a path.
  package static func value(
    _ name: String, _ value: String, _ help: String, choices: [String] = [], isPath: Bool = false
  ) -> CommandOption {
    CommandOption(name: name, value: value, choices: choices, isPath: isPath, help: help)
  }

  /// As help shows it.
  package var form: String { "--\(name)" + (value.map { "=\($0)" } ?? "") }
}

/// What a mode may be given on its command line.
package struct CommandSyntax: Sendable, Hashable {
  /// The subcommand.
  package let mode: String
  package let options: [CommandOption]
  /// Words that may follow the options, such as a mode's name; shells offer them.
  package let operands: [String]
  /// The maximum number of operands.
  package let operandLimit: Int

  package init(mode: String, options: [CommandOption], operands: [String] = [], operandLimit: Int = 0) {
    self.mode = mode
    self.options = options + [.flag("help", "show this")]
    self.operands = operands
    self.operandLimit = operandLimit
  }

  /// Invalid arguments: what was given and what is allowed.
  package struct Refusal: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String
  }

  /// Reads `--name`, `--name=value`, `--name value` and `-h`; nothing after `--` is an option.
  ///
  /// - Throws: `Refusal` for an unknown or duplicate option, a missing or unexpected value, and too many operands.
  package func read(_ arguments: [String]) throws(Refusal) -> CommandArguments {
    var result = CommandArguments()
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      if argument == "--" {
        result.operands += rest
        break
      }
      if argument == "-h" {
        result.values["help"] = ""
        continue
      }
      guard argument.hasPrefix("-"), argument != "-" else {
        result.operands.append(argument)
        continue
      }
      let body = argument.dropFirst(argument.hasPrefix("--") ? 2 : 1)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      guard argument.hasPrefix("--"), let option = options.first(where: { $0.name == name }) else {
        throw refusal("unknown option \(argument.prefix(64)); there are \(forms)")
      }
      guard result.values[name] == nil else { throw refusal("--\(name) is given twice") }
      result.values[name] = try value(of: option, given: parts.count > 1 ? String(parts[1]) : nil, &rest)
    }
    if result.operands.count > operandLimit, result.values["help"] == nil {
      throw refusal("unexpected argument \"\(result.operands[operandLimit].prefix(64))\"; options are \(forms)")
    }
    return result
  }

  private func value(
    of option: CommandOption, given: String?, _ rest: inout ArraySlice<String>
  ) throws(Refusal) -> String {
    guard let placeholder = option.value else {
      guard given == nil else { throw refusal("--\(option.name) takes no value") }
      return ""
    }
    guard let text = given ?? rest.popFirst(), !text.isEmpty else {
      throw refusal("--\(option.name) needs a value: \(option.form)")
    }
    guard option.choices.isEmpty || option.choices.contains(text) else {
      let choices = option.choices.joined(separator: ", ")
      throw refusal("--\(option.name)=\(text.prefix(64)): \(placeholder) is one of \(choices)")
    }
    return text
  }

  private var forms: String { options.map(\.form).joined(separator: ", ") }

  /// For a value that only the mode can judge.
  package func refusal(_ text: String) -> Refusal { Refusal(description: "vpc-cni \(mode): \(text)") }
}

/// What was given on a command line.
package struct CommandArguments: Sendable, Hashable {
  /// By option; empty for one without a value.
  package internal(set) var values: [String: String] = [:]
  package internal(set) var operands: [String] = []

  package init() {}

  package func has(_ name: String) -> Bool { values[name] != nil }

  package subscript(_ name: String) -> String? { values[name] }

  /// A whole number within a range; nil if the option is missing.
  package func number(
    _ name: String, in range: ClosedRange<Int>, _ syntax: CommandSyntax
  ) throws(CommandSyntax.Refusal) -> Int? {
    guard let text = values[name] else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw syntax.refusal("--\(name)=\(text.prefix(64)): allowed is \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }
}

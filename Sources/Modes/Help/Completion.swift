// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// Completion scripts: the modes, and the options of those that have some.
struct Completion {
  enum Shell: String, CaseIterable { case bash, zsh, fish }

  let modes: [ModeDescription]

  func script(for shell: Shell) -> String {
    switch shell {
    case .bash: bash
    case .zsh: zsh
    case .fish: fish
    }
  }

  private var words: String { modes.map(\.subcommand).joined(separator: " ") }

  /// Words behind a mode: `help` takes the modes.
  private func operands(of mode: ModeDescription) -> [String] {
    mode.subcommand == "help" ? modes.map(\.subcommand) : mode.syntax?.operands ?? []
  }

  private func forms(of mode: ModeDescription) -> [String] {
    (mode.syntax?.options ?? []).map { $0.value == nil ? "--\($0.name)" : "--\($0.name)=" }
  }

  private var bash: String {
    var cases = ""
    for mode in modes where mode.syntax != nil || mode.subcommand == "help" {
      var values = ""
      for option in mode.syntax?.options ?? [] {
        if !option.choices.isEmpty {
          values +=
            "        --\(option.name)) COMPREPLY=($(compgen -W '\(option.choices.joined(separator: " "))' -- \"$current\")); return ;;\n"
        } else if option.isPath {
          values += "        --\(option.name)) COMPREPLY=($(compgen -f -- \"$current\")); return ;;\n"
        }
      }
      let offered = (forms(of: mode) + operands(of: mode)).joined(separator: " ")
      cases += "    \(mode.subcommand))\n"
      if !values.isEmpty { cases += "      case $option in\n\(values)      esac\n" }
      cases += "      COMPREPLY=($(compgen -W '\(offered)' -- \"$current\")) ;;\n"
    }
    return """
      # bash completion of vpc-cni
      _vpc_cni() {
        local current=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]}
        COMPREPLY=()
        # bash takes = for a word of its own.
        if [[ $current == = ]]; then current=; elif [[ $option == = ]]; then option=${COMP_WORDS[COMP_CWORD-2]}; fi
        if [[ $COMP_CWORD -eq 1 ]]; then COMPREPLY=($(compgen -W '\(words)' -- "$current")); return; fi
        case ${COMP_WORDS[1]} in
      \(cases)  esac
        if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
      }
      complete -F _vpc_cni vpc-cni

      """
  }

  private var zsh: String {
    let described = modes.map { "    '\($0.subcommand):\(Completion.plain($0.summary))'\n" }.joined()
    var cases = ""
    for mode in modes {
      let options = (mode.syntax?.options ?? []).map { option in
        let help = Completion.plain(option.help)
        guard let value = option.value else { return "'--\(option.name)[\(help)]'" }
        let action =
          option.isPath ? "_files" : option.choices.isEmpty ? "" : "(\(option.choices.joined(separator: " ")))"
        return "'--\(option.name)=[\(help)]:\(value):\(action)'"
      }
      let operands = operands(of: mode)
      let rest = operands.isEmpty ? [] : ["'1:word:(\(operands.joined(separator: " ")))'"]
      guard !options.isEmpty || !rest.isEmpty else { continue }
      cases += "    \(mode.subcommand)) _arguments \((options + rest).joined(separator: " ")) ;;\n"
    }
    return """
      #compdef vpc-cni
      _vpc_cni() {
        local -a modes=(
      \(described)  )
        if (( CURRENT == 2 )); then _describe mode modes; return; fi
        local mode=$words[2]
        shift words
        (( CURRENT-- ))
        case $mode in
      \(cases)  esac
      }
      _vpc_cni "$@"

      """
  }

  private var fish: String {
    var text = "# fish completion of vpc-cni\ncomplete -c vpc-cni -f\n"
    for mode in modes {
      text +=
        "complete -c vpc-cni -n __fish_use_subcommand -a \(mode.subcommand) -d '\(Completion.plain(mode.summary))'\n"
      let condition = "-n '__fish_seen_subcommand_from \(mode.subcommand)'"
      for option in mode.syntax?.options ?? [] {
        text += "complete -c vpc-cni \(condition) -l \(option.name) -d '\(Completion.plain(option.help))'"
        if option.isPath {
          text += " -r -F"
        } else if option.value != nil {
          text += " -x" + (option.choices.isEmpty ? "" : " -a '\(option.choices.joined(separator: " "))'")
        }
        text += "\n"
      }
      let operands = operands(of: mode)
      if !operands.isEmpty { text += "complete -c vpc-cni \(condition) -a '\(operands.joined(separator: " "))'\n" }
    }
    return text
  }

  /// Without shell metacharacters.
  private static func plain(_ text: String) -> String {
    String(text.map { "'\"[]:\\`$".contains($0) ? " " : $0 })
  }
}

// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni doctor`: facts once (FactGathering), then every check a pure function over them (Checks), then the text.

package import VPCModel
internal import VPCSystem

/// Diagnoses the node's pod network, with remedies. Changes nothing.
package enum DoctorMode {
  package static let description = ModeDescription(
    subcommand: "doctor", names: [], summary: "diagnoses the node's pod network; changes nothing",
    details: """
      Checks the agent, the kernel, the firewall, the host, IMDS and EC2 in at most five seconds; works without an agent.
      Run it as root on the node, or in aws-node's container. Exit status: 0 nothing found, 1 warnings, 2 something is
      broken, 64 wrong arguments.
      """, syntax: syntax)

  private static let syntax = CommandSyntax(
    mode: "doctor",
    options: [
      .flag("json", "print JSON"), .flag("all", "print details of checks without findings too"),
      .flag("list", "list the checks and exit"),
      .value("check", "ID", "run only this check", choices: checkIDs),
      .value("address", "ADDRESS", "introspection address: ADDRESS:PORT or unix:/path (default: the agent's setting)"),
    ])

  /// The identifiers of all checks, in their order.
  package static let checkIDs = Check.all.map(\.id)

  package static func run(arguments: [String]) -> Int32 {
    description.run(arguments, syntax) { given throws(CommandSyntax.Refusal) in
      if given.has("list") {
        let width = (checkIDs.map(\.count).max() ?? 0) + 2
        for check in Check.all {
          Terminal.say(check.id + String(repeating: " ", count: width - check.id.count) + check.looksAt + "\n")
        }
        return 0
      }
      var address: ListenAddress?
      if let text = given["address"] {
        address = ListenAddress(text)
        guard address != nil else {
          throw syntax.refusal("--address=\(text.prefix(120)): allowed is ADDRESS:PORT or unix:/path")
        }
      }
      let facts = FactGathering(address: address).gather()
      let checks = given["check"].map { id in Check.all.filter { $0.id == id } } ?? Check.all
      let text = DoctorText(answers: checks.map { Answer(check: $0, finding: $0.judge(facts)) })
      Terminal.say(
        given.has("json")
          ? text.json.indented(by: 2).visibleLines + "\n"
          : text.text(isColoured: Terminal.showsColour, isWhole: given.has("all")))
      return text.status
    }
  }
}

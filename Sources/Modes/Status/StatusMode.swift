// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCLinux
package import VPCModel
internal import VPCObserve
internal import VPCSystem

/// `vpc-cni status`: the node's state, by one request to its agent.
package enum StatusMode {
  package static let description = ModeDescription(
    subcommand: "status", names: [], summary: "shows the node's pool, ENIs and pods as the agent knows them",
    details: """
      One request to the agent's introspection, at most 3 seconds. Exit status: 0 shown, 1 no answer, 64 wrong
      arguments.
      """, syntax: syntax)

  private static let syntax = CommandSyntax(
    mode: "status",
    options: [
      .flag("json", "print the agent's answer as JSON"),
      .flag("watch", "refresh until Ctrl-C"),
      .value("interval", "SECONDS", "refresh interval of --watch, 1 to 3600 (default 2)"),
      .value("pods", "COUNT", "maximum number of pods to show, 0 to 10000 (default 20)"),
      .value(
        "address", "ADDRESS", "introspection address: ADDRESS:PORT or unix:/path (default: the agent's setting)"),
    ])

  package static func run(arguments: [String]) -> Int32 {
    description.run(arguments, syntax) { given throws(CommandSyntax.Refusal) in
      let interval = try given.number("interval", in: 1...3600, syntax) ?? 2
      let pods = try given.number("pods", in: 0...10_000, syntax) ?? 20
      let introspection = try find(given["address"])
      var last: Int32
      repeat {
        last = show(introspection, asJSON: given.has("json"), pods: pods, clears: given.has("watch"))
        if given.has("watch") { sleep(UInt32(interval)) }
      } while given.has("watch")
      return last
    }
  }

  private static func find(_ address: String?) throws(CommandSyntax.Refusal) -> AgentIntrospection {
    if let address {
      guard let parsed = ListenAddress(address) else {
        throw syntax.refusal("--address=\(address.prefix(120)): allowed is ADDRESS:PORT or unix:/path")
      }
      return AgentIntrospection(address: parsed)
    }
    let agent = ProcessTable.read().agent.map { ProcessTable.environment(of: $0.pid) }
    return AgentIntrospection(environments: [ProcessEnvironment.variables(), agent ?? [:]])
  }

  private static func show(_ agent: AgentIntrospection, asJSON: Bool, pods: Int, clears: Bool) -> Int32 {
    let clear = clears && Terminal.showsColour ? "\u{1b}[H\u{1b}[2J" : ""
    do throws(HTTPFetch.Failure) {
      let status = try agent.status()
      let text = asJSON ? status.json.indented(by: 2).visibleLines + "\n" : StatusText(status, podLimit: pods).text
      Terminal.say(clear + text)
      return 0
    } catch {
      let remedy =
        error.isRefused
        ? "no agent listens there: is aws-node running on this node? run `aws-cni doctor`"
        : "run `aws-cni doctor`"
      Terminal.complain("vpc-cni status: \("\(error)".visible); \(remedy)\n")
      return 1
    }
  }
}

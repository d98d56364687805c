// SPDX-License-Identifier: Apache-2.0
//
// One binary, many names: selects the mode by the first argument or by its own name, and runs it. See also: a mode's
// `run` under Sources/Modes.

import AgentMode
import DoctorMode
import Glibc
import HealthMode
import HelpMode
import InitMode
import MetricsHelperMode
import NodeMode
import PluginMode
import StatusMode
import SupportBundleMode
import VPCModel

/// A role that this binary can take.
struct Mode {
  /// The first argument that chooses it.
  let subcommand: String
  /// The names it is installed under.
  let names: [String]
  /// Its help, created on demand, since every pod start uses this table.
  let description: () -> ModeDescription
  /// Receives the arguments after the name or subcommand, and all modes; returns the exit status.
  let run: ([String], () -> [ModeDescription]) -> Int32

  /// One that people run by hand.
  init(
    _ subcommand: String, names: [String] = [], _ description: @autoclosure @escaping () -> ModeDescription,
    run: @escaping ([String], () -> [ModeDescription]) -> Int32
  ) {
    self.subcommand = subcommand
    self.names = names
    self.description = description
    self.run = run
  }

  /// One that programs call.
  init(
    subcommand: String, names: [String], summary: String, details: @autoclosure @escaping () -> String = "",
    run: @escaping ([String]) -> Int32
  ) {
    self.subcommand = subcommand
    self.names = names
    description = {
      ModeDescription(subcommand: subcommand, names: names, summary: summary, details: details())
    }
    self.run = { arguments, _ in run(arguments) }
  }
}

let modes = [
  Mode(
    subcommand: "plugin", names: ["aws-cni"], summary: "CNI plugin, one process per CNI command",
    details: "Called by the container runtime: CNI_COMMAND and the other variables of the CNI specification, and the\n"
      + "network configuration on standard input (docs/configuration.md)."
  ) { _ in
    PluginMode.run()
  },
  Mode(
    subcommand: "egress", names: ["egress-cni"],
    summary: "chained CNI plugin: IPv4 egress for IPv6 pods, IPv6 egress for IPv4 pods",
    details: "Called by the container runtime behind aws-cni, like the plugin (docs/configuration.md)."
  ) { _ in
    EgressMode.run()
  },
  Mode(subcommand: "node", names: ["aws-vpc-cni", "aws-node"], summary: "entrypoint of the aws-node container") {
    arguments in
    NodeMode.run(arguments: arguments)
  },
  Mode(subcommand: "init", names: ["aws-vpc-cni-init"], summary: "sets up the host, then exits") { arguments in
    InitMode.run(arguments: arguments)
  },
  Mode(
    subcommand: "agent", names: ["aws-k8s-agent", "ipamd"], summary: "the node's IPAM agent",
    details: "Takes no arguments; its settings are environment variables (docs/configuration.md)."
  ) { arguments in
    AgentMode.run(arguments: arguments)
  },
  Mode(
    subcommand: "health", names: ["grpc-health-probe"], summary: "probes a gRPC health service",
    details: HealthMode.usage
  ) { arguments in
    HealthMode.run(arguments: arguments)
  },
  Mode(
    subcommand: "metrics-helper", names: ["cni-metrics-helper"], summary: "sums the metrics of all agents in a cluster"
  ) {
    arguments in
    MetricsHelperMode.run(arguments: arguments)
  },
  Mode("status", StatusMode.description) { arguments, _ in StatusMode.run(arguments: arguments) },
  Mode("doctor", DoctorMode.description) { arguments, _ in DoctorMode.run(arguments: arguments) },
  Mode("support", names: ["aws-cni-support.sh", "aws-cni-support"], SupportBundleMode.description) { arguments, _ in
    SupportBundleMode.run(arguments: arguments)
  },
  Mode("help", HelpMode.helpDescription) { HelpMode.help(arguments: $0, modes: $1()) },
  Mode("version", HelpMode.versionDescription) { arguments, _ in HelpMode.version(arguments: arguments) },
  Mode("completion", HelpMode.completionDescription) { HelpMode.completion(arguments: $0, modes: $1()) },
]

let words = CommandLine.arguments
let name = words.first.map { String($0[($0.lastIndex(of: "/").map($0.index(after:)) ?? $0.startIndex)...]) } ?? ""

if let own = modes.first(where: { $0.names.contains(name) }) {
  // On a node's host the binary exists only as `aws-cni`: `aws-cni doctor` works like `vpc-cni doctor`. A container
  // runtime passes no argument and sets CNI_COMMAND.
  let isAsked = words.count > 1 && getenv("CNI_COMMAND") == nil
  let other = isAsked ? modes.first { $0.subcommand == words[1] || $0.names.contains(words[1]) } : nil
  exit((other ?? own).run(Array(words.dropFirst(other == nil ? 1 : 2)), { modes.map { $0.description() } }))
}
// `--help` and `--version`, as programs without modes have them.
let asked = words.count > 1 ? ["--help": "help", "-h": "help", "--version": "version"][words[1]] ?? words[1] : ""
if let mode = modes.first(where: { $0.subcommand == asked || $0.names.contains(asked) }) {
  exit(mode.run(Array(words.dropFirst(2)), { modes.map { $0.description() } }))
}
exit(HelpMode.refuse(words, modes: modes.map { $0.description() }))

// SPDX-License-Identifier: Apache-2.0
//
// One binary, many names: finds the mode by the name that it was called, then by the first argument, and runs it.
// Read on: a mode's `run` under Sources/Modes.

import AgentMode
import Glibc
import HealthMode
import PluginMode

/// A role that this binary can take.
struct Mode {
  /// The first argument that chooses it.
  let subcommand: String
  /// The names it is installed under.
  let names: [String]
  let summary: String
  /// Takes the arguments that follow the name or the subcommand; returns the exit status.
  let run: ([String]) -> Int32
}

let modes = [
  Mode(subcommand: "plugin", names: ["aws-cni"], summary: "CNI plugin, one process for each pod event") { _ in
    PluginMode.run()
  },
  Mode(subcommand: "agent", names: ["aws-k8s-agent", "ipamd"], summary: "the node's address agent") { arguments in
    AgentMode.run(arguments: arguments)
  },
  Mode(subcommand: "health", names: ["grpc-health-probe"], summary: "probe of a gRPC health service") { arguments in
    HealthMode.run(arguments: arguments)
  },
]

let words = CommandLine.arguments
let name = words.first.map { String($0[($0.lastIndex(of: "/").map($0.index(after:)) ?? $0.startIndex)...]) } ?? ""

if let mode = modes.first(where: { $0.names.contains(name) }) {
  exit(mode.run(Array(words.dropFirst())))
}
if words.count > 1, let mode = modes.first(where: { $0.subcommand == words[1] || $0.names.contains(words[1]) }) {
  exit(mode.run(Array(words.dropFirst(2))))
}

// EX_USAGE of sysexits.h: neither the name nor the first argument is one of ours.
let rows = modes.map { mode in
  "  \(mode.subcommand)\(String(repeating: " ", count: 10 - mode.subcommand.count))\(mode.summary)"
    + " (as \(mode.names.joined(separator: ", ")))\n"
}
let usage = Array("usage: vpc-cni MODE [ARGUMENT ...]\n\n\(rows.joined())".utf8)
_ = write(STDERR_FILENO, usage, usage.count)
exit(64)

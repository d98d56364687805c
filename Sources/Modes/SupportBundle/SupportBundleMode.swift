// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni support`, on a host `aws-cni support` or aws-cni-support.sh: BundlePlan lists the parts, BundleRun collects
// them concurrently (PartCollector), each without its secrets (Redactor), and writes the archive (ArchiveStream), which
// gets its final name at the end (NewFile).

internal import Glibc
package import VPCModel
internal import VPCObserve
internal import VPCSystem

/// Collects what is needed to understand the node's pod network into one archive.
package enum SupportBundleMode {
  package static let description = ModeDescription(
    subcommand: "support", names: ["aws-cni-support.sh", "aws-cni-support"],
    summary: "collects a support bundle into one archive",
    details: """
      Run it as root on the node. It works without agent, IMDS, container runtime and iptables, needs no program of the
      node, and takes less than 30 seconds. Secrets are replaced by [redacted KIND]; read the archive before you give it
      away all the same. index.txt in it says what was collected, what was not, and why. Exit status: 0 made, 1 not made,
      64 wrong arguments, 77 not root, 130 and 143 interrupted; then no archive is left.
      """, syntax: syntax)

  private static let syntax = CommandSyntax(
    mode: "support",
    options: [
      .value(
        "output", "PATH", "a folder, a file name in .tar.gz, or - for standard output (default /var/log)", isPath: true),
      .flag("quiet", "print only errors and the archive's path"),
      .value(
        "ignore_introspection", "BOOL", "leave out the agent's introspection (default false)",
        choices: ["true", "false"]),
      .value("ignore_metrics", "BOOL", "leave out the agent's metrics (default false)", choices: ["true", "false"]),
      .value("eks_hybrid", "BOOL", "hybrid node: do not read IMDS (default false)", choices: ["true", "false"]),
    ])

  package static func run(arguments: [String]) -> Int32 {
    description.run(arguments, syntax) { given throws(CommandSyntax.Refusal) in
      let target = BundleTarget(given["output"], current: workingFolder())
      if target == .standardOutput, isatty(STDOUT_FILENO) == 1 {
        throw syntax.refusal("--output=-: standard output is a terminal; redirect it to a file")
      }
      guard geteuid() == 0 else {
        Terminal.complain("vpc-cni support: only root can read the files of the bundle; run it with sudo\n")
        return 77
      }
      return SupportBundle(
        target: target, isQuiet: given.has("quiet"), ignoresIntrospection: given["ignore_introspection"] == "true",
        ignoresMetrics: given["ignore_metrics"] == "true", isHybrid: given["eks_hybrid"] == "true"
      ).make()
    }
  }

  private static func workingFolder() -> String {
    var path = [CChar](repeating: 0, count: 4096)
    guard getcwd(&path, path.count) != nil else { return "/" }
    return String(decoding: path.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

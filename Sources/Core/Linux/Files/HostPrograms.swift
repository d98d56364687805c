// SPDX-License-Identifier: Apache-2.0

/// What a node's host has from us in its folder of CNI plugins: this binary, and a script that runs it.
package enum HostPrograms {
  /// The container runtime finds a plugin by its `type`. People run it as `aws-cni doctor`, `status` and `support`.
  package static let plugin = "aws-cni"

  /// The name that amazon-vpc-cni-k8s's script has. A script and no second name of the binary: AWS's instructions run it
  /// as `bash aws-cni-support.sh` (docs/decisions/0050).
  package static let supportScript = "aws-cni-support.sh"
  package static let supportScriptText =
    #"""
    #!/bin/sh
    exec "$(dirname "$(readlink -f "$0")")/aws-cni" support "$@"

    """#

  /// Puts both there by atomic renames; a program that runs is not disturbed.
  ///
  /// - Parameters:
  ///   - program: absolute path of the binary.
  ///   - folder: the host's folder of CNI plugins; it must exist.
  /// - Returns: what was done to each.
  /// - Throws: `FileError` naming the file; what was installed before it stays.
  package static func install(
    _ program: String, into folder: String
  ) throws(FileError) -> [(name: String, outcome: FileInstallation.Outcome)] {
    // The program first: a script without it would lead nowhere.
    let installed = try FileInstallation.install(program, to: "\(folder)/\(plugin)", mode: 0o755)
    let script = try FileInstallation.install(
      content: Array(supportScriptText.utf8), to: "\(folder)/\(supportScript)", mode: 0o755)
    return [(plugin, installed), (supportScript, script)]
  }
}

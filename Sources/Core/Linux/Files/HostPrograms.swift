// SPDX-License-Identifier: Apache-2.0

package import VPCSystem

/// The files that this program installs in the host's CNI plugin folder: this binary, a link to it, and a script that
/// runs it.
package enum HostPrograms {
  /// The container runtime finds a plugin by its `type`. People run it as `aws-cni doctor`, `status` and `support`.
  package static let plugin = "aws-cni"

  /// The chained plugin, by its `type` too: a symbolic link, so that both are of one release (docs/decisions/0062).
  package static let egressPlugin = "egress-cni"

  /// The script name of amazon-vpc-cni-k8s. It is a script instead of a second name of the binary, since AWS's
  /// instructions run it as `bash aws-cni-support.sh` (docs/decisions/0050).
  package static let supportScript = "aws-cni-support.sh"
  package static let supportScriptText =
    #"""
    #!/bin/sh
    exec "$(dirname "$(readlink -f "$0")")/aws-cni" support "$@"

    """#

  /// Installs all by atomic renames; running processes are not disturbed.
  ///
  /// - Parameters:
  ///   - program: absolute path of the binary.
  ///   - folder: the host's folder of CNI plugins; it must exist.
  /// - Returns: what was done to each.
  /// - Throws: `FileError` naming the file; what was installed before it stays.
  package static func install(
    _ program: String, into folder: String
  ) throws(FileError) -> [(name: String, outcome: FileInstallation.Outcome)] {
    // The program first: the script needs it.
    let installed = try FileInstallation.install(program, to: "\(folder)/\(plugin)", mode: 0o755)
    let egress = try FileInstallation.link("\(folder)/\(egressPlugin)", to: plugin)
    let script = try FileInstallation.install(
      content: Array(supportScriptText.utf8), to: "\(folder)/\(supportScript)", mode: 0o755)
    return [(plugin, installed), (egressPlugin, egress), (supportScript, script)]
  }
}

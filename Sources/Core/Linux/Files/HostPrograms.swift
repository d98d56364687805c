// SPDX-License-Identifier: Apache-2.0

/// The programs that a node's host has from us, all of them this one binary.
package enum HostPrograms {
  /// Names in the host's folder of CNI plugins. The runtime finds a plugin by its `type`; the second is run by hand, and
  /// has the name of the existing system's script.
  package static let names = ["aws-cni", "aws-cni-support.sh"]

  /// Copies the program under its first name, by an atomic rename; a running one is not disturbed. The other names are
  /// hard links to it, since one copy is enough of 23 MB; copies where the file system has no links.
  ///
  /// - Parameters:
  ///   - program: absolute path of the binary.
  ///   - folder: the host's folder of CNI plugins; it must exist.
  /// - Returns: what was done, in the order of `names`.
  /// - Throws: `FileError` naming the file; what was installed before it stays.
  package static func install(
    _ program: String, into folder: String
  ) throws(FileError) -> [(name: String, outcome: FileInstallation.Outcome)] {
    var done: [(name: String, outcome: FileInstallation.Outcome)] = []
    for name in names {
      let path = "\(folder)/\(name)"
      if let first = done.first, let outcome = FileInstallation.link("\(folder)/\(first.name)", to: path) {
        done.append((name, outcome))
      } else {
        done.append((name, try FileInstallation.install(program, to: path, mode: 0o755)))
      }
    }
    return done
  }
}

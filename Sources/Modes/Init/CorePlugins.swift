// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCSystem

/// The standard CNI plugins of the image, for hosts that lack them.
struct CorePlugins {
  /// What to copy, sorted.
  let missing: [String]
  /// Plugins that the host already has; they stay, since a machine image's own are usually newer (docs/decisions/0029).
  let present: [String]

  /// - Parameters:
  ///   - offered: names in the image's folder.
  ///   - isThere: whether the host has something of that name.
  init(offered: [String], isThere: (String) -> Bool) {
    missing = offered.filter { !isThere($0) }
    present = offered.filter(isThere)
  }

  /// Copies what is missing.
  ///
  /// - Throws: `FileError` naming the file.
  static func install(from source: String, into folder: String) throws(FileError) -> CorePlugins {
    let plan = CorePlugins(offered: try FileInstallation.files(in: source)) {
      FileInstallation.isThere("\(folder)/\($0)")
    }
    for name in plan.missing { try FileInstallation.install("\(source)/\(name)", to: "\(folder)/\(name)") }
    return plan
  }
}

// SPDX-License-Identifier: Apache-2.0

import VPCLinux
import VPCModel
import VPCSystem

/// The agent's checkpoint files, which GC reads.
enum CheckpointFiles {
  static let folder = "/var/run/aws-node"

  /// Reads `ipam.json` and `ipam-nic-1.json`, `ipam-nic-2.json`…; those that do not exist are left out.
  ///
  /// - Throws: `FileError`, also for a file beyond `CheckpointReader.maximumSize`.
  static func read(folder: String = CheckpointFiles.folder) throws(FileError) -> [[UInt8]] {
    var contents: [[UInt8]] = []
    for card in 0..<PodNetwork.maximumInterfaces {
      let path = Checkpoint.path("\(folder)/ipam.json", card: card)
      do throws(FileError) {
        contents.append(try BoundedFile.read(path, limit: CheckpointReader.maximumSize))
      } catch {
        guard error.isNotFound else { throw error }
      }
    }
    return contents
  }
}

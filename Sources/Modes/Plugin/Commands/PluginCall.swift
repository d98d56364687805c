// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCModel

/// One call of the plugin: the request, and its ports to the outside world.
///
/// The commands are extensions, one file each: `add()`, `delete()`, `check()`, `status()`, `collectGarbage()`.
struct PluginCall {
  let request: CNIRequest
  let configuration: NetworkConfiguration
  let agent: any AgentPort
  let policy: any PolicyPort
  let kernel: any KernelPort
  /// The agent's checkpoint files, whole; empty when there are none.
  let checkpoints: () throws -> [[UInt8]]
  let log: Logger
  let now: () -> ContinuousClock.Instant

  /// Runs the command.
  ///
  /// - Returns: the JSON for standard output; nil for none.
  /// - Throws: the error for standard output, with exit status 1.
  func run() throws(CNIError) -> JSONValue? {
    switch request.command {
    case .add:
      let own = try add().json(version: configuration.version)
      guard let previous = configuration.previousResultJSON else { return own }
      return ChainResult.append(own, to: previous, version: configuration.version)
    case .delete: try delete()
    case .check: try check()
    case .status: try status()
    case .collectGarbage: try collectGarbage()
    case .version: return CNIVersion.answer
    }
    return nil
  }

  /// The client version in requests. The agent compares it with its own; every release of amazon-vpc-cni-k8s leaves it
  /// empty on both sides, and anything else would be refused.
  static let clientVersion = ""
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// One file of the bundle, and where its content comes from.
struct BundlePart: Sendable, Hashable {
  enum Source: Sendable, Hashable {
    /// A program of the node, run without a shell.
    case command(String, [String])
    /// This binary in another mode, with this process's environment.
    case own([String])
    /// A regular file; only the end of a long one.
    case file(String)
    /// The end of a rotated and compressed log.
    case compressed(String)
    /// A path of the agent's introspection.
    case introspection(String)
    /// The agent's metrics.
    case metrics
    /// The environment of the agent's process.
    case agentEnvironment
    /// The container runtime's data about containers of this image or of amazon-vpc-cni-k8s: their settings are visible
    /// there when their processes are gone.
    case containers
    /// Whether the API server that kubelet uses answers.
    case apiServer
  }

  /// Path in the archive, below its one folder.
  let path: String
  let source: Source
  /// Bytes before compression that are kept.
  var limit = 4 << 20
  var deadline = Duration.seconds(10)
  /// Parts of the agent and its plugin come first: other files never use up the bundle's limits.
  var comesFirst = false
  /// A path that must exist: a daemon's socket, which its client would wait for.
  var needs: String?
  /// Reformatted into lines, so that a long document is not truncated as one long line.
  var isJSON = false

  /// As the index shows it.
  var origin: String {
    switch source {
    case .command(let program, let arguments): ([program] + arguments).joined(separator: " ")
    case .own(let arguments): (["vpc-cni"] + arguments).joined(separator: " ")
    case .file(let path), .compressed(let path): path
    case .introspection(let path): "the agent's introspection, \(path)"
    case .metrics: "the agent's metrics"
    case .agentEnvironment: "environment of the agent's process"
    case .containers: "ctr -n k8s.io containers info, for the containers of aws-node"
    case .apiServer: "curl SERVER/livez, for kubelet's API server"
    }
  }
}

/// The outcome of a part.
struct PartRecord: Sendable, Hashable {
  enum Outcome: String, Sendable, Hashable {
    case collected
    /// Partly collected.
    case partial
    /// Its source does not exist on this node.
    case absent
    case failed
    /// The bundle's limits leave no room or time.
    case leftOut = "left out"
  }

  let path: String
  let origin: String
  var outcome: Outcome
  /// Empty on success.
  var reason: String
  /// Size in the archive, before compression.
  var size: Int
  var seconds: Double
  /// Secrets that were replaced, by kind.
  var redacted: [SecretKind: Int]
}

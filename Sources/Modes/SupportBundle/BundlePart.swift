// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// One file of the bundle, and where its content comes from.
struct BundlePart: Sendable, Hashable {
  enum Source: Sendable, Hashable {
    /// A program of the node, run without a shell.
    case command(String, [String])
    /// This binary in another mode, with this process's environment.
    case own([String])
    /// A regular file, of a long one the end.
    case file(String)
    /// A log that was put aside and compressed, the end of it.
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
  /// What the agent and its plugin say comes before all else: the bundle's bounds are never used up by other files.
  var comesFirst = false
  /// What must exist for it to be worth a try: a daemon's socket, which its client would wait for.
  var needs: String?
  /// Made of lines by the reader, so that a long document is not cut as one long line is.
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

/// How a part came out.
struct PartRecord: Sendable, Hashable {
  enum Outcome: String, Sendable, Hashable {
    case collected
    /// There is something, but not all of it.
    case partial
    /// What it would come from does not exist on this node.
    case absent
    case failed
    /// The bundle's bounds leave no room or time.
    case leftOut = "left out"
  }

  let path: String
  let origin: String
  var outcome: Outcome
  /// Empty for what went well.
  var reason: String
  /// Before compression, as it stands in the archive.
  var size: Int
  var seconds: Double
  /// Secrets that were replaced, by kind.
  var redacted: [SecretKind: Int]
}

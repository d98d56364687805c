// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// Everything that the checks judge by, gathered once (`FactGathering`).
struct NodeFacts: Sendable {
  var agent: Fact<AgentFacts> = .unknown("not checked")
  var status: Fact<AgentStatus> = .unknown("not checked")
  var settings = SettingsFacts()
  var kernel: Fact<KernelFacts> = .unknown("not checked")
  /// What differs from what the node's network should be, in words.
  var differences: Fact<[String]> = .unknown("not checked")
  var firewall: Fact<FirewallFacts> = .unknown("not checked")
  var lock: Fact<LockFacts> = .unknown("not checked")
  var pods: Fact<PodFacts> = .unknown("not checked")
  var host = HostFacts()
  var metadata: Fact<MetadataFacts> = .unknown("not checked")
  var cloud: Fact<CloudFacts> = .unknown("not checked")
}

/// The agent's health service.
struct AgentFacts: Sendable, Hashable {
  /// SERVING.
  var serves: Bool
  /// What it said, or why there is no answer.
  var said: String
  /// From the question to its answer.
  var after: Duration
}

/// The settings that the agent runs with, as far as they can be seen.
struct SettingsFacts: Sendable {
  /// Where they were read.
  var source = "the defaults"
  var settings: Settings?
  /// Why the environment is refused.
  var refused: String?
  /// As they stand in the environment.
  var variables: [String: String] = [:]
}

/// The node's network as the kernel holds it.
struct KernelFacts: Sendable {
  var rules: [PolicyRule] = []
  var links: [Link] = []
  /// Host routes of single addresses, in the pods' table and in main.
  var podRoutes: [Route] = []
  var forwarding: String?
  /// rp_filter of `all`, and of each link that is no veth, by name.
  var reversePath: [String: String] = [:]
}

/// iptables of both kinds, and nftables.
struct FirewallFacts: Sendable, Hashable {
  /// Chains that drop forwarded packets by their policy.
  var droppingForward: [String] = []
  /// Backends in which kubelet's chain stands.
  var kubelet: [String] = []
  /// Backends in which rules of ours stand.
  var ours: [String] = []
}

/// /run/xtables.lock.
struct LockFacts: Sendable, Hashable {
  var path: String
  /// Something else than a file: iptables-legacy can never lock.
  var isDirectory = false
  /// Who held it at both looks, half a second apart.
  var holder: String?
}

/// Pods by the checkpoint, and their side of the network.
struct PodFacts: Sendable {
  struct Pod: Sendable, Hashable {
    var name: String
    var address: IPAddress
    /// The last part of its host interface's name.
    var suffix: String?
    var ageSeconds: Int
  }

  var path: String
  /// False where there is no file.
  var exists = true
  var findings: [String] = []
  /// `ipam.json.damaged` stands beside it.
  var hasDamaged = false
  var pods: [Pod] = []
  /// Host interfaces whose MAC is not the one that their pod sends to, `eniX of NAMESPACE`.
  var wrongMACs: Fact<[String]> = .unknown("not checked")
}

/// What files and processes of the host say.
struct HostFacts: Sendable {
  /// systemd's .link file that asks for persistent MACs of virtual interfaces; nil where none does.
  var persistentMACs: String?
  /// systemd-networkd runs and may remove rules that it did not make: the setting that is missing.
  var networkdRemovesRules: Fact<Bool> = .unknown("not checked")
  /// nm-cloud-setup is installed and enabled.
  var cloudSetupEnabled = false
  /// `--max-pods` or maxPods of the kubelet.
  var maxPods: Fact<Int> = .unknown("cannot see the kubelet process from here")
  var conflists: Fact<[Conflist]> = .unknown("not checked")
  var plugin: Fact<PluginFile> = .unknown("not checked")
  /// The commit of the binary that asks.
  var ownCommit = "unknown"
  /// Times that the agent's container was started anew, by the pod's log files.
  var restarts: Fact<Int> = .unknown("cannot see /var/log/pods from here")
  /// Part of its periods in which the agent was kept from running by its CPU limit, in percent; nil without a limit.
  var throttledPercent: Int?

  struct Conflist: Sendable, Hashable {
    var name: String
    /// Nil: not JSON.
    var plugins: [String]?
    var vethPrefix: String?
    var mtu: Int?
  }

  struct PluginFile: Sendable, Hashable {
    var path: String
    /// Nil: no binary of ours.
    var commit: String?
  }
}

/// IMDS.
struct MetadataFacts: Sendable {
  /// Nil where it answers.
  var error: String?
  /// Tokens are wanted and do not arrive.
  var losesTokens = false
  var instanceType: String?
  var after: Duration = .zero
}

/// What EC2 says to the credentials that the agent has too.
struct CloudFacts: Sendable {
  /// Permissions that EC2 denied to a dry run.
  var denied: [String] = []
  /// Permissions that were granted.
  var granted: [String] = []
  /// Of the node's zone.
  var subnets: [Subnet] = []
  /// ENIs without an instance that an agent made, older than an hour.
  var leaked: [String] = []
  /// What could not be asked, with the reason.
  var problems: [String] = []

  struct Subnet: Sendable, Hashable {
    var id: String
    var free: Int
    /// An ENI of this node is in it.
    var isUsed = true
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The input of all checks, gathered once (`FactGathering`).
struct NodeFacts: Sendable {
  var agent: Fact<AgentFacts> = .unknown("not checked")
  var status: Fact<AgentStatus> = .unknown("not checked")
  var settings = SettingsFacts()
  var kernel: Fact<KernelFacts> = .unknown("not checked")
  /// Differences from the desired node network, in words.
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
  /// Its answer, or why there is none.
  var said: String
  /// From the question to its answer.
  var after: Duration
}

/// The agent's settings, as far as visible.
struct SettingsFacts: Sendable {
  /// Where they were read.
  var source = "the defaults"
  var settings: Settings?
  /// Why the environment is refused.
  var refused: String?
  /// Verbatim from the environment.
  var variables: [String: String] = [:]
}

/// The node network in the kernel.
struct KernelFacts: Sendable {
  var rules: [PolicyRule] = []
  var links: [Link] = []
  /// Host routes of single addresses, in the pods' table and in main.
  var podRoutes: [Route] = []
  /// What the kernel needs to forward packets of the pods' family.
  var forwarding: [KernelSettingReading] = []
  /// rp_filter of `all`, and of each link except veths, by name.
  var reversePath: [String: String] = [:]
}

/// iptables of both kinds, and nftables.
struct FirewallFacts: Sendable, Hashable {
  /// Chains that drop forwarded packets by their policy.
  var droppingForward: [String] = []
  /// Backends with kubelet's chain.
  var kubelet: [String] = []
  /// Backends with the agent's rules.
  var ours: [String] = []
}

/// /run/xtables.lock.
struct LockFacts: Sendable, Hashable {
  var path: String
  /// Not a file: iptables-legacy can never lock.
  var isDirectory = false
  /// Its holder at both checks, half a second apart.
  var holder: String?
}

/// Pods of the checkpoint, and their host state.
struct PodFacts: Sendable {
  struct Pod: Sendable, Hashable {
    var name: String
    var address: IPAddress
    /// The last part of its host interface's name.
    var suffix: String?
    var ageSeconds: Int
  }

  var path: String
  /// False if there is no file.
  var exists = true
  var findings: [String] = []
  /// `ipam.json.damaged` exists.
  var hasDamaged = false
  var pods: [Pod] = []
  /// Host interfaces whose MAC differs from the one their pod uses, `eniX of NAMESPACE`.
  var wrongMACs: Fact<[String]> = .unknown("not checked")
}

/// Facts from files and processes of the host.
struct HostFacts: Sendable {
  /// systemd's .link file with persistent MACs for virtual interfaces; nil if there is none.
  var persistentMACs: String?
  /// systemd-networkd runs and may remove foreign rules: the setting is missing.
  var networkdRemovesRules: Fact<Bool> = .unknown("not checked")
  /// nm-cloud-setup is installed and enabled.
  var cloudSetupEnabled = false
  /// `--max-pods` or maxPods of the kubelet.
  var maxPods: Fact<Int> = .unknown("cannot see the kubelet process from here")
  var conflists: Fact<[Conflist]> = .unknown("not checked")
  var plugin: Fact<PluginFile> = .unknown("not checked")
  /// This binary's commit.
  var ownCommit = "unknown"
  /// Restarts of the agent's container, by the pod's log files.
  var restarts: Fact<Int> = .unknown("cannot see /var/log/pods from here")
  /// Periods in which the CPU limit throttled the agent, in percent; nil without a limit.
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
    /// Nil: not a vpc-cni binary.
    var commit: String?
  }
}

/// IMDS.
struct MetadataFacts: Sendable {
  /// Nil if it answers.
  var error: String?
  /// Tokens are required and do not arrive.
  var losesTokens = false
  var instanceType: String?
  var after: Duration = .zero
}

/// EC2's answers to the agent's credentials.
struct CloudFacts: Sendable {
  /// Permissions that EC2 denied to a dry run.
  var denied: [String] = []
  /// Permissions that were granted.
  var granted: [String] = []
  /// Of the node's zone.
  var subnets: [Subnet] = []
  /// Unattached ENIs created by an agent, older than an hour.
  var leaked: [String] = []
  /// Failed requests, with the reason.
  var problems: [String] = []

  struct Subnet: Sendable, Hashable {
    var id: String
    var free: Int
    /// An ENI of this node is in it.
    var isUsed = true
  }
}

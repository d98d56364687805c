// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import VPCLinux

/// What goes into the bundle: a table, and the files that the node has. The folders are those of amazon-eks-ami's log
/// collector, so that its readers find their way (BundlePlan+Programs has the commands).
struct BundlePlan: Sendable {
  /// Leave out the agent's introspection, or its metrics.
  var ignoresIntrospection = false
  var ignoresMetrics = false
  /// The agent's process, if one runs.
  var agentProcess: Int32?
  /// `/`, but for tests.
  var root = ""

  /// What is collected, and what is skipped for lack of room.
  struct Collection: Sendable {
    var parts: [BundlePart] = []
    /// For the index, one line for each folder.
    var notes: [String] = []
  }

  /// The most important first; then the long ones, so that they do not finish last.
  var collection: Collection {
    var collection = files
    let first = agent.map { part in
      var part = part
      part.comesFirst = true
      return part
    }
    collection.parts = (first + programs + collection.parts).sorted {
      ($0.comesFirst ? 0 : 1, $1.deadline) < ($1.comesFirst ? 0 : 1, $0.deadline)
    }
    return collection
  }

  private var agent: [BundlePart] {
    var parts: [BundlePart] = [
      BundlePart(
        path: "ipamd/doctor.json", source: .own(["doctor", "--json", "--all"]), deadline: .seconds(12), isJSON: true),
      BundlePart(path: "ipamd/version.json", source: .own(["version", "--json"]), isJSON: true),
      BundlePart(path: "ipamd/agent-environment.txt", source: .agentEnvironment),
      BundlePart(path: "cni/containers.txt", source: .containers, needs: BundlePlan.sockets["ctr"]),
      BundlePart(path: "networking/api-server.txt", source: .apiServer),
    ]
    if !ignoresIntrospection {
      for name in ["status", "enis", "networkutils-env-settings", "ipamd-env-settings", "eni-configs"] {
        parts.append(BundlePart(path: "ipamd/\(name).json", source: .introspection("/v1/\(name)"), isJSON: true))
      }
    }
    if !ignoresMetrics { parts.append(BundlePart(path: "ipamd/metrics.txt", source: .metrics)) }
    return parts
  }

  // MARK: files

  /// Files of a folder that the bundle takes.
  private struct Taken {
    let folder: String
    /// In the archive.
    let target: String
    /// Names that are always taken.
    var first: [String] = []
    /// Allowed prefixes of first-level names; names with the first prefix come first.
    var starts: [String] = [""]
    var ends: [String] = [""]
    /// Depth of subfolders to search.
    var depth = 0
    var limit = 4 << 20
    var isJSON = false
  }

  /// Pods with network-related logs, by namespace and name prefix.
  private static let pods = [
    "aws-node-", "cni-metrics-helper", "coredns-", "kube-proxy-", "ebs-csi-", "efs-csi-", "fsx-csi-", "s3-csi-",
    "eks-pod-identity-agent-", "eks-node-monitoring-agent-", "kube-multus-",
  ].map { "kube-system_\($0)" }

  /// The agent's, its plugins', and those of the network policy agent, which writes into the same folder.
  static let logs = [
    "ipamd.log", "plugin.log", "network-policy-agent.log", "ebpf-sdk.log", "egress-v4-plugin.log",
    "egress-v6-plugin.log",
  ]
  /// The maximum number of files per folder.
  private static let fileLimit = 60

  private static let folders: [Taken] = [
    Taken(
      folder: "/var/run/aws-node", target: "ipamd", first: ["ipam.json", "ipam.json.damaged"], limit: 16 << 20,
      isJSON: true),
    Taken(folder: "/etc/cni/net.d", target: "cni", first: ["10-aws.conflist"]),
    Taken(folder: "/host/etc/cni/net.d", target: "cni/host", first: ["10-aws.conflist"]),
    Taken(
      folder: "/var/log/aws-routed-eni", target: "var_log/aws-routed-eni", first: logs, ends: [".log"],
      limit: 24 << 20),
    Taken(
      folder: "/host/var/log/aws-routed-eni", target: "var_log/host-aws-routed-eni", first: logs, ends: [".log"],
      limit: 24 << 20),
    Taken(folder: "/var/log/pods", target: "var_log/pods", starts: pods, ends: [".log"], depth: 2),
    Taken(folder: "/etc/systemd/network", target: "networking/systemd-network/etc", depth: 1),
    Taken(folder: "/run/systemd/network", target: "networking/systemd-network/run", depth: 1),
    Taken(folder: "/usr/lib/systemd/network", target: "networking/systemd-network/lib", ends: [".link", ".network"]),
    Taken(folder: "/etc/systemd/networkd.conf.d", target: "networking/networkd.conf.d"),
    Taken(folder: "/etc/NetworkManager/conf.d", target: "networking/NetworkManager"),
    Taken(folder: "/etc/kubernetes/kubelet", target: "kubelet", depth: 1),
    Taken(folder: "/etc/systemd/system/kubelet.service.d", target: "kubelet/kubelet.service.d"),
    Taken(folder: "/etc/eks", target: "nodeadm", depth: 1),
    Taken(folder: "/etc/containerd", target: "containerd", ends: [".toml"], depth: 1),
    Taken(folder: "/etc/sysctl.d", target: "sysctls/sysctl.d"),
    Taken(folder: "/proc/pressure", target: "system/pressure"),
  ]

  private static let single: [(path: String, target: String)] = [
    ("/var/log/messages", "var_log/messages"), ("/var/log/syslog", "var_log/syslog"), ("/var/log/cron", "var_log/cron"),
    ("/var/log/cloud-init.log", "var_log/cloud-init.log"),
    ("/var/log/cloud-init-output.log", "var_log/cloud-init-output.log"),
    ("/var/log/user-data.log", "var_log/user-data.log"), ("/var/log/kube-proxy.log", "var_log/kube-proxy.log"),
    ("/var/lib/cloud/instance/user-data.txt", "var_log/user-data.txt"),
    ("/etc/resolv.conf", "networking/resolv.conf"), ("/etc/hosts", "networking/hosts"),
    ("/etc/nsswitch.conf", "networking/nsswitch.conf"), ("/etc/systemd/networkd.conf", "networking/networkd.conf"),
    ("/proc/net/dev", "networking/proc/dev"), ("/proc/net/snmp", "networking/proc/snmp"),
    ("/proc/net/netstat", "networking/proc/netstat"), ("/proc/net/route", "networking/proc/route"),
    ("/proc/net/ipv6_route", "networking/proc/ipv6_route"), ("/proc/net/arp", "networking/proc/arp"),
    ("/proc/net/fib_trie", "networking/proc/fib_trie"), ("/proc/net/softnet_stat", "networking/proc/softnet_stat"),
    ("/proc/net/sockstat", "networking/proc/sockstat"), ("/proc/net/unix", "networking/proc/unix"),
    ("/proc/sys/net/netfilter/nf_conntrack_count", "networking/nf_conntrack_count"),
    ("/proc/sys/net/netfilter/nf_conntrack_max", "networking/nf_conntrack_max"),
    ("/var/lib/kubelet/config.yaml", "kubelet/config.yaml"), ("/var/lib/kubelet/kubeconfig", "kubelet/kubeconfig"),
    ("/etc/docker/daemon.json", "docker/daemon.json"), ("/proc/cmdline", "kernel/cmdline"),
    ("/proc/version", "kernel/version"), ("/proc/modules", "kernel/modules"), ("/etc/os-release", "system/os-release"),
    ("/proc/meminfo", "system/meminfo"), ("/proc/loadavg", "system/loadavg"), ("/proc/stat", "system/stat"),
    ("/proc/uptime", "system/uptime"), ("/proc/cpuinfo", "system/cpuinfo"), ("/proc/locks", "system/locks"),
    ("/proc/self/mounts", "storage/mounts"), ("/etc/fstab", "storage/fstab"),
    ("/proc/partitions", "storage/partitions"),
  ]

  /// Files whose absence is informative are listed even if missing.
  private var files: Collection {
    var collection = Collection()
    collection.parts = BundlePlan.single.map { path, target in
      BundlePart(path: target, source: .file(root + path), limit: path.hasPrefix("/var/log") ? 24 << 20 : 4 << 20)
    }
    if let agent = agentProcess {
      for name in ["status", "limits", "cgroup", "wchan"] {
        collection.parts.append(BundlePart(path: "ipamd/process/\(name)", source: .file("/proc/\(agent)/\(name)")))
      }
    }
    for taken in BundlePlan.folders {
      let found = FolderWalk.files(
        root + taken.folder, depth: taken.depth, limit: BundlePlan.fileLimit, starts: taken.starts, ends: taken.ends,
        first: taken.first)
      collection.parts += found.names.map { name in
        BundlePart(
          path: "\(taken.target)/\(name)", source: .file("\(root)\(taken.folder)/\(name)"), limit: taken.limit,
          comesFirst: taken.first.contains(name), isJSON: taken.isJSON && name.hasSuffix(".json"))
      }
      if let note = found.note(taken.folder) { collection.notes.append(note) }
    }
    for folder in ["var/log/aws-routed-eni", "host/var/log/aws-routed-eni"] {
      let found = FolderWalk.files("\(root)/\(folder)", depth: 0, limit: 200, ends: [".log.gz"])
      for name in BundlePlan.newestPutAside(found.names) {
        collection.parts.append(
          BundlePart(
            path: "var_log/\(folder.hasPrefix("host") ? "host-" : "")aws-routed-eni/\(name.dropLast(3))",
            source: .compressed("\(root)/\(folder)/\(name)"), limit: 16 << 20))
      }
    }
    return collection
  }

  /// The last backup of each log, `NAME-TIME.log.gz`: the problem may have occurred just before the rotation. Of other
  /// programs' names, a few.
  static func newestPutAside(_ names: [String]) -> [String] {
    var newest: [String: String] = [:]
    for name in names.sorted() where name.hasSuffix(".log.gz") {
      // The time begins with the year.
      let stem = name.split(separator: "-").prefix { $0.first?.isNumber != true }.joined(separator: "-")
      newest[stem] = name
    }
    let isOurs = { (stem: String) in logs.contains("\(stem).log") }
    let others = newest.keys.filter { !isOurs($0) }.sorted().prefix(8)
    return (newest.keys.filter(isOurs) + others).compactMap { newest[$0] }.sorted()
  }

  /// Interfaces that have a device behind them: the ENIs.
  var hardwareLinks: [String] {
    FolderWalk.names(root + "/sys/class/net", limit: 64).filter { link in
      var status = stat()
      return stat("\(root)/sys/class/net/\(link)/device", &status) == 0
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

extension BundlePlan {
  private struct Program {
    let path: String
    let words: [String]
    var deadline: Duration
    var limit: Int

    init(_ path: String, _ words: String, seconds: Int = 10, limit: Int = 4 << 20) {
      self.path = path
      self.words = words.split(separator: " ").map(String.init)
      deadline = .seconds(seconds)
      self.limit = limit
    }
  }

  /// All commands only read: the firewall is read by iptables-save, since iptables -L loads the tables that it lists.
  private static let table: [Program] = [
    Program("cni/plugins.txt", "ls -laL /opt/cni/bin /etc/cni/net.d"),
    // The firewall, in all backends.
    Program("networking/nftables.txt", "nft -a list ruleset", limit: 8 << 20),
    Program("networking/iptables-save.txt", "iptables-save -c", limit: 8 << 20),
    Program("networking/iptables-nft-save.txt", "iptables-nft-save -c", limit: 8 << 20),
    Program("networking/iptables-legacy-save.txt", "iptables-legacy-save -c", limit: 8 << 20),
    Program("networking/ip6tables-save.txt", "ip6tables-save -c", limit: 8 << 20),
    Program("networking/ip6tables-nft-save.txt", "ip6tables-nft-save -c", limit: 8 << 20),
    Program("networking/ip6tables-legacy-save.txt", "ip6tables-legacy-save -c", limit: 8 << 20),
    Program("networking/iptables-version.txt", "iptables --version"),
    Program("networking/ipset.txt", "ipset list"), Program("networking/ipvsadm.txt", "ipvsadm -Ln"),
    Program("networking/conntrack-statistics.txt", "conntrack -S"),
    Program("networking/conntrack.txt", "conntrack -L", limit: 8 << 20),
    Program("networking/conntrack6.txt", "conntrack -L -f ipv6"),
    // Links, addresses, rules, routes.
    Program("networking/ip-link.txt", "ip -d -s link"), Program("networking/ip-address.txt", "ip address"),
    Program("networking/ip-rule.txt", "ip rule"), Program("networking/ip6-rule.txt", "ip -6 rule"),
    Program("networking/ip-route.txt", "ip route show table all"),
    Program("networking/ip6-route.txt", "ip -6 route show table all"),
    Program("networking/ip-neighbour.txt", "ip neighbour"), Program("networking/ip-netns.txt", "ip netns"),
    Program("networking/sockets.txt", "ss -tunap"), Program("networking/socket-summary.txt", "ss -s"),
    Program("networking/tc.txt", "tc -s qdisc"),
    Program("networking/networkctl.txt", "networkctl --no-pager status -a"),
    Program("networking/resolvectl.txt", "resolvectl --no-pager status"),
    Program("networking/nmcli.txt", "nmcli device show"),
    Program("networking/bpf-programs.txt", "bpftool prog show"),
    Program("networking/bpf-links.txt", "bpftool net show"),
    Program("networking/network-policy-maps.txt", "/opt/cni/bin/aws-eks-na-cli ebpf loaded-ebpfdata"),
    // Names with a trailing dot: no search list. A node without DNS must not wait for these.
    Program("networking/ping-amazon.txt", "ping -c 2 -i 0.2 -W 1 amazon.com.", seconds: 3),
    Program("networking/ping-ecr.txt", "ping -c 2 -i 0.2 -W 1 public.ecr.aws.", seconds: 3),
    Program("networking/networkd-journal.txt", journal("-u systemd-networkd -n 20000"), seconds: 15),
    Program(
      "networking/multicard-journal.txt", journal("-u configure-multicard-interfaces -n 20000"), seconds: 15),
    // kubelet, nodeadm and the runtime.
    Program("kubelet/journal.txt", journal("-u kubelet -n 60000"), seconds: 20, limit: 24 << 20),
    Program("kubelet/service.txt", "systemctl --no-pager cat kubelet"),
    Program("kubelet/status.txt", "systemctl --no-pager -l status kubelet"),
    Program("nodeadm/journal.txt", journal("-u nodeadm-config -u nodeadm-run -n 20000"), seconds: 15),
    Program("containerd/journal.txt", journal("-u containerd -n 60000"), seconds: 20, limit: 24 << 20),
    Program("containerd/version.txt", "ctr --connect-timeout=2s version"),
    Program("containerd/config-dump.txt", "containerd config dump"),
    Program("containerd/images.txt", "ctr --connect-timeout=2s -n k8s.io images list"),
    Program("containerd/containers.txt", "ctr --connect-timeout=2s -n k8s.io containers list"),
    Program("containerd/tasks.txt", "ctr --connect-timeout=2s -n k8s.io tasks list"),
    Program("containerd/plugins.txt", "ctr --connect-timeout=2s plugins list"),
    Program("containerd/crictl-info.txt", "crictl --timeout=4s info"),
    Program("containerd/crictl-pods.txt", "crictl --timeout=4s pods"),
    Program("containerd/crictl-ps.txt", "crictl --timeout=4s ps -a"),
    Program("docker/info.txt", "docker info"), Program("docker/ps.txt", "docker ps -a --no-trunc"),
    Program("docker/journal.txt", journal("-u docker -n 20000"), seconds: 15),
    Program("sandbox-image/journal.txt", journal("-u sandbox-image -n 20000"), seconds: 15),
    // The kernel and the system.
    Program("kernel/dmesg.txt", "dmesg -T", limit: 8 << 20), Program("kernel/uname.txt", "uname -a"),
    Program("modinfo/lsmod.txt", "lsmod"), Program("modinfo/nf_conntrack.txt", "modinfo nf_conntrack"),
    Program("modinfo/ip_vs.txt", "modinfo ip_vs"), Program("modinfo/nf_tables.txt", "modinfo nf_tables"),
    Program("sysctls/sysctl_all.txt", "sysctl -a"), Program("system/top.txt", "top -b -n 1 -w 200"),
    Program("system/ps.txt", "ps auxwwf"), Program("system/threads.txt", "ps -eLo pid,tid,stat,pcpu,wchan:32,comm"),
    Program("system/services.txt", "systemctl --no-pager list-units --all"),
    Program("system/failed-services.txt", "systemctl --no-pager --failed"), Program("system/rpm.txt", "rpm -qa"),
    Program("system/dpkg.txt", "dpkg-query -W"), Program("system/selinux.txt", "sestatus"),
    Program("system/reboots.txt", "last -x reboot"), Program("system/time.txt", "timedatectl"),
    Program("system/chrony.txt", "chronyc -n tracking"), Program("system/free.txt", "free -m"),
    Program("system/vmstat.txt", "vmstat -s"),
    Program("storage/df.txt", "df -hT"), Program("storage/df-inodes.txt", "df -i"),
    Program("storage/lsblk.txt", "lsblk -f"),
    Program("storage/lvs.txt", "lvs"), Program("storage/vgs.txt", "vgs"), Program("storage/pvs.txt", "pvs"),
    Program("storage/xfs.txt", "xfs_info /"), Program("gpu/nvidia-smi.txt", "nvidia-smi -q", seconds: 15),
  ]

  /// Where the daemons of their clients listen.
  static let sockets = ["ctr": "/run/containerd/containerd.sock", "docker": "/run/docker.sock"]

  /// Ten days of it, the newest lines at the end.
  private static func journal(_ options: String) -> String {
    "journalctl --no-pager -o short-iso-precise --since=-10d \(options)"
  }

  var programs: [BundlePart] {
    var parts = BundlePlan.table.compactMap { program -> BundlePart? in
      guard let name = program.words.first else { return nil }
      return BundlePart(
        path: program.path, source: .command(name, Array(program.words.dropFirst())), limit: program.limit,
        deadline: program.deadline, needs: BundlePlan.sockets[name])
    }
    for link in hardwareLinks {
      parts.append(
        BundlePart(path: "networking/ethtool/\(link)-statistics.txt", source: .command("ethtool", ["-S", link])))
      parts.append(
        BundlePart(path: "networking/ethtool/\(link)-driver.txt", source: .command("ethtool", ["-i", link])))
    }
    return parts
  }
}

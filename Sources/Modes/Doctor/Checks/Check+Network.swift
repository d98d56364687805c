// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The kernel's state, and the programs that change it.
extension Check {
  static let forwarding = Check(
    id: "ip-forward",
    looksAt: "net.ipv4.ip_forward; with IPv6 forwarding, disable_ipv6 and accept_ra of net.ipv6.conf",
    why: "without IP forwarding, no traffic reaches or leaves pods"
  ) { facts in
    facts.kernel.judged { kernel in
      let wrong = kernel.forwarding.filter { !$0.isRight }
      let unread = wrong.filter { $0.found == nil }
      guard unread.isEmpty else { return .unknown("cannot read \(listed(unread.map(\.setting.name)))") }
      guard wrong.isEmpty else {
        return .broken(
          listed(wrong.map { "\($0.setting.name) is \($0.found ?? "")" }),
          remedy: wrong.map { "sysctl -w \($0.setting.name)=\($0.setting.value)" }.joined(separator: "; ")
            + ", and set it in /etc/sysctl.d")
      }
      return .ok(listed(kernel.forwarding.map { "\($0.setting.name)=\($0.setting.value)" }))
    }
  }

  static let forwardPolicy = Check(
    id: "forward-policy", looksAt: "the policy of FORWARD in iptables, and of nftables chains at the forward hook",
    why: "the node forwards pod traffic: a drop policy loses packets that no rule accepts"
  ) { facts in
    facts.firewall.judged { firewall in
      guard !firewall.droppingForward.isEmpty else { return .ok("accept") }
      return .broken(
        "policy drop in \(listed(firewall.droppingForward))",
        remedy: "iptables -P FORWARD ACCEPT (of that kind), or nft 'chain TABLE CHAIN { policy accept; }'; "
          + "on an EKS AMI kubelet.service does it")
    }
  }

  static let reversePath = Check(
    id: "rp-filter", looksAt: "net.ipv4.conf.*.rp_filter of all and of the ENIs",
    why: "the strict check ignores the packet's mark: it drops packets for pods on secondary ENIs"
  ) { facts in
    facts.kernel.judged { kernel in
      let all = Int(kernel.reversePath["all"] ?? "0") ?? 0
      let strict = kernel.reversePath.filter { $0.key != "all" && max(Int($0.value) ?? 0, all) == 1 }.keys.sorted()
      guard strict.isEmpty else {
        return .broken(
          "1 (strict) in effect on \(listed(strict))",
          remedy: strict.prefix(3).map { "sysctl -w net.ipv4.conf.\($0).rp_filter=2" }.joined(separator: "; "))
      }
      return .ok("not strict on \(kernel.reversePath.count - 1) interfaces")
    }
  }

  static let macPolicy = Check(
    id: "mac-address-policy", looksAt: "MACs of pods' host interfaces, and systemd's MACAddressPolicy",
    why: "a pod sends to the original MAC of its host interface: if it changes, the pod is cut off"
  ) { facts in
    let remedy =
      "MACAddressPolicy=none in /etc/systemd/network/98-pods.link ([Match] OriginalName=eni*), then delete the pods"
    if let wrong = facts.pods.value?.wrongMACs.value, !wrong.isEmpty {
      return .broken("changed MAC: \(listed(wrong))", remedy: remedy)
    }
    guard let file = facts.host.persistentMACs else { return .ok("no policy that changes MACs") }
    if case .known(let plugin) = facts.host.plugin, plugin.commit == nil {
      return .warning(
        "MACAddressPolicy=persistent in \(file), and the installed plugin is not this project's", remedy: remedy)
    }
    return .ok("\(file) sets persistent MACs; systemd keeps the MACs that the plugin sets at creation")
  }

  static let cloudSetup = Check(
    id: "nm-cloud-setup", looksAt: "policy rules and tables 30200… and 30400…, and the service nm-cloud-setup",
    why: "it replaces the node's rules and routes with its own: pods on secondary ENIs lose connectivity"
  ) { facts in
    facts.kernel.judged { kernel in
      let foreign = kernel.rules.filter { rule in
        [rule.priority, rule.table.number].contains { (30_200..<30_500).contains($0) }
      }
      let remedy = "systemctl disable --now nm-cloud-setup.timer nm-cloud-setup.service; reboot, or restart the agent"
      if !foreign.isEmpty { return .broken("rules \(listed(foreign))", remedy: remedy) }
      if facts.host.cloudSetupEnabled { return .warning("nm-cloud-setup is enabled", remedy: remedy) }
      return .ok("no nm-cloud-setup rules")
    }
  }

  static let networkd = Check(
    id: "networkd-rules", looksAt: "systemd-networkd and ManageForeignRoutingPolicyRules",
    why: "when networkd restarts, it removes policy rules and routes that it did not create"
  ) { facts in
    facts.host.networkdRemovesRules.judged { removes in
      guard removes else { return .ok("networkd is not running, or keeps other programs' rules") }
      return .warning(
        "systemd-networkd runs with ManageForeignRoutingPolicyRules=yes (its default)",
        remedy: "printf '[Network]\\nManageForeignRoutingPolicyRules=no\\nManageForeignRoutes=no\\n' "
          + "> /etc/systemd/networkd.conf.d/vpc-cni.conf; systemctl restart systemd-networkd")
    }
  }

  static let iptablesMode = Check(
    id: "iptables-mode", looksAt: "kubelet's and vpc-cni's chains in iptables-legacy and iptables-nft",
    why: "rules in two backends are independent: whether SNAT and NodePorts work depends on their order"
  ) { facts in
    facts.firewall.judged { firewall in
      let remedy =
        "use one backend: let the image's iptables follow kubelet's, remove the other backend's rules "
        + "(iptables-legacy -t nat -F, …), restart the agent"
      if firewall.kubelet.count > 1 {
        return .warning("kubelet's chains exist in both: \(firewall.kubelet.joined(separator: ", "))", remedy: remedy)
      }
      guard let kubelet = firewall.kubelet.first else {
        return .ok("no kubelet chains; vpc-cni's: \(listed(firewall.ours))")
      }
      let elsewhere = firewall.ours.filter { $0 != kubelet }
      guard elsewhere.isEmpty else {
        return .broken(
          "kubelet uses iptables-\(kubelet), vpc-cni's rules are in iptables-\(listed(elsewhere))", remedy: remedy)
      }
      return .ok("all in iptables-\(kubelet)")
    }
  }

  static let xtablesLock = Check(
    id: "xtables-lock", looksAt: "/run/xtables.lock",
    why: "every iptables write waits for the lock: the agent's startup and every rule change"
  ) { facts in
    facts.lock.judged { lock in
      if lock.isDirectory {
        return .broken(
          "\(lock.path) is a directory: it was mounted before the file existed",
          remedy: "rmdir \(lock.path) (drain first), and use hostPath type FileOrCreate in the manifest")
      }
      guard let holder = lock.holder else { return .ok("free") }
      return .warning(
        "held by \(holder)", remedy: "check \(holder) with ps; end it if it hangs")
    }
  }

  static let nodeNetwork = Check(
    id: "node-network", looksAt: "rules, routes, links, the source map and SNAT against the desired state",
    why: "pod packets leave by the wrong ENI, with the wrong source, or are lost"
  ) { facts in
    facts.differences.judged { differences in
      let told = facts.status.value?.kernel.differences ?? []
      let all = differences + told.filter { !differences.contains($0) }
      guard all.isEmpty else {
        return .broken(
          listed(all),
          remedy: "restart the agent, which repairs it (delete the aws-node pod of this node); "
            + "find the program that changes it")
      }
      return .ok("no differences")
    }
  }

  static let podReturn = Check(
    id: "pod-return-path", looksAt: "the route to each pod and its interface",
    why: "packets to the pod are misrouted or lost"
  ) { facts in
    guard let pods = facts.pods.value, let kernel = facts.kernel.value else {
      return .unknown("cannot read the checkpoint or the routes")
    }
    let veths = kernel.podVeths
    let links = Dictionary(kernel.links.map { ($0.index, $0) }) { first, _ in first }
    let leadsToPods = kernel.rules.contains {
      $0.table == .pods && $0.priority == RulePriority.toPod && $0.isLookup && $0.destination == nil
    }
    var lost: [String] = []
    for pod in pods.pods {
      guard let suffix = pod.suffix, let veth = veths[suffix] else { continue }
      let routes = kernel.podRoutes.filter { $0.destination == IPPrefix(single: pod.address) }
      let reached = routes.filter { $0.table == .main || $0.table == .pods && leadsToPods }
      if reached.isEmpty {
        lost.append("no route to \(pod.address) of \(pod.name)")
      } else if !reached.contains(where: { $0.device == veth }) {
        let where_ = reached.first?.device.flatMap { links[$0]?.name } ?? "elsewhere"
        lost.append("\(pod.address) of \(pod.name) leads to \(where_)")
      } else if links[veth]?.isUp == false {
        lost.append("\(links[veth]?.name ?? "the interface") of \(pod.name) is down")
      }
    }
    guard lost.isEmpty else {
      return .broken(listed(lost), remedy: "restart the agent, which restores the routes; or delete the pods")
    }
    return .ok("\(pods.pods.count) pods")
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// What the kernel holds, and who changes it.
extension Check {
  static let forwarding = Check(
    id: "ip-forward", looksAt: "net.ipv4.ip_forward", why: "without it no packet gets from or to any pod"
  ) { facts in
    facts.kernel.judged { kernel in
      guard let value = kernel.forwarding else { return .unknown("net.ipv4.ip_forward cannot be read") }
      guard value == "1" else {
        return .broken(
          "net.ipv4.ip_forward is \(value)", remedy: "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d")
      }
      return .ok("1")
    }
  }

  static let forwardPolicy = Check(
    id: "forward-policy", looksAt: "the policy of FORWARD in iptables, and of nftables chains at the forward hook",
    why: "packets from and to pods are forwarded: a policy of drop loses those that no rule accepts"
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
    why: "the strict check asks for the way back without the packet's mark: packets for pods on other ENIs are dropped"
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
    why: "a pod sends to the MAC that its host interface had at first: changed, the pod is cut off"
  ) { facts in
    let remedy =
      "MACAddressPolicy=none in /etc/systemd/network/98-pods.link ([Match] OriginalName=eni*), then delete the pods"
    if let wrong = facts.pods.value?.wrongMACs.value, !wrong.isEmpty {
      return .broken("changed MAC: \(listed(wrong))", remedy: remedy)
    }
    guard let file = facts.host.persistentMACs else { return .ok("no policy that changes MACs") }
    if case .known(let plugin) = facts.host.plugin, plugin.commit == nil {
      return .warning("MACAddressPolicy=persistent in \(file), and another plugin", remedy: remedy)
    }
    return .ok("\(file) asks for persistent MACs; systemd leaves those alone that the plugin sets at creation")
  }

  static let cloudSetup = Check(
    id: "nm-cloud-setup", looksAt: "policy rules and tables 30200… and 30400…, and the service nm-cloud-setup",
    why: "it replaces the node's rules and routes with its own: pods on secondary ENIs lose their way"
  ) { facts in
    facts.kernel.judged { kernel in
      let foreign = kernel.rules.filter { rule in
        [rule.priority, rule.table.number].contains { (30_200..<30_500).contains($0) }
      }
      let remedy = "systemctl disable --now nm-cloud-setup.timer nm-cloud-setup.service; reboot, or restart the agent"
      if !foreign.isEmpty { return .broken("rules \(listed(foreign))", remedy: remedy) }
      if facts.host.cloudSetupEnabled { return .warning("nm-cloud-setup is enabled", remedy: remedy) }
      return .ok("no rule of its")
    }
  }

  static let networkd = Check(
    id: "networkd-rules", looksAt: "systemd-networkd and ManageForeignRoutingPolicyRules",
    why: "at its restart networkd removes policy rules and routes that it did not make"
  ) { facts in
    facts.host.networkdRemovesRules.judged { removes in
      guard removes else { return .ok("networkd does not run, or leaves other programs' rules alone") }
      return .warning(
        "systemd-networkd runs with ManageForeignRoutingPolicyRules=yes (its default)",
        remedy: "printf '[Network]\\nManageForeignRoutingPolicyRules=no\\nManageForeignRoutes=no\\n' "
          + "> /etc/systemd/networkd.conf.d/vpc-cni.conf; systemctl restart systemd-networkd")
    }
  }

  static let iptablesMode = Check(
    id: "iptables-mode", looksAt: "kubelet's and our chains in iptables-legacy and iptables-nft",
    why: "rules in two backends do not know of each other: SNAT and NodePorts work by luck of their order"
  ) { facts in
    facts.firewall.judged { firewall in
      let remedy =
        "one backend for all: let the image's iptables follow kubelet's, remove the other's rules "
        + "(iptables-legacy -t nat -F, …), restart the agent"
      if firewall.kubelet.count > 1 {
        return .warning("kubelet's chains stand in both: \(firewall.kubelet.joined(separator: ", "))", remedy: remedy)
      }
      guard let kubelet = firewall.kubelet.first else {
        return .ok("no chain of kubelet's; ours: \(listed(firewall.ours))")
      }
      let elsewhere = firewall.ours.filter { $0 != kubelet }
      guard elsewhere.isEmpty else {
        return .broken(
          "kubelet uses iptables-\(kubelet), our rules stand in iptables-\(listed(elsewhere))", remedy: remedy)
      }
      return .ok("all in iptables-\(kubelet)")
    }
  }

  static let xtablesLock = Check(
    id: "xtables-lock", looksAt: "/run/xtables.lock",
    why: "whoever writes iptables waits for the lock: the agent's start, and every change of its rules"
  ) { facts in
    facts.lock.judged { lock in
      if lock.isDirectory {
        return .broken(
          "\(lock.path) is a directory: it was mounted before the file was there",
          remedy: "rmdir \(lock.path) (drain first), and hostPath type FileOrCreate in the manifest")
      }
      guard let holder = lock.holder else { return .ok("free") }
      return .warning(
        "held for longer than a moment by \(holder)", remedy: "look at \(holder); ps, then end it if it hangs")
    }
  }

  static let nodeNetwork = Check(
    id: "node-network", looksAt: "rules, routes, links, the source map and SNAT, against what they should be",
    why: "packets of pods go by the wrong ENI, with the wrong source, or nowhere"
  ) { facts in
    facts.differences.judged { differences in
      let told = facts.status.value?.kernel.differences ?? []
      let all = differences + told.filter { !differences.contains($0) }
      guard all.isEmpty else {
        return .broken(
          listed(all),
          remedy: "restart the agent, which mends it (kubectl -n kube-system delete pod of aws-node); "
            + "find out who changes it")
      }
      return .ok("as wanted")
    }
  }

  static let podReturn = Check(
    id: "pod-return-path", looksAt: "the route to each pod and the interface that it leads to",
    why: "answers to the pod go elsewhere or nowhere"
  ) { facts in
    guard let pods = facts.pods.value, let kernel = facts.kernel.value else {
      return .unknown("the checkpoint or the routes cannot be read")
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

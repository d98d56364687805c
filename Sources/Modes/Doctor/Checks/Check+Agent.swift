// SPDX-License-Identifier: Apache-2.0

internal import VPCLinux
internal import VPCModel

/// The agent itself.
extension Check {
  static let agentServes = Check(
    id: "agent-serves", looksAt: "the agent's health service at /var/run/aws-node/ipamd.sock",
    why: "without an agent, no pod can start on this node"
  ) { facts in
    facts.agent.judged { agent in
      if agent.serves { return .ok("serving, answered after \(agent.after.brief)") }
      return .broken(
        agent.said,
        remedy: "kubectl -n kube-system logs ds/aws-node -c aws-node --previous; "
          + "/var/log/aws-routed-eni/ipamd.log says why it is not running")
    }
  }

  static let apiServer = Check(
    id: "api-server", looksAt: "what the agent reads from the API server: its node, its ENIConfig, events",
    why:
      "without the Node object the agent uses the instance type's pod limit and misses a cordon; without the ENIConfig "
      + "it creates no ENIs"
  ) { facts in
    facts.status.judged { status in
      guard let cluster = status.cluster else { return .unknown("the agent's release does not report it") }
      if !cluster.faults.isEmpty {
        let missing = cluster.faults.map(\.permission).filter { !$0.isEmpty }
        let remedy =
          missing.isEmpty
          ? "check the network path to the API server, its token and CA; CLUSTER_ENDPOINT bypasses kube-proxy; "
            + "/var/log/aws-routed-eni/ipamd.log has every failure"
          : "allow the ClusterRole aws-node to \(listed(missing)): kubectl apply -k manifests/overlays/default, or "
            + "kubectl edit clusterrole aws-node"
        let text = listed(cluster.faults.map(\.text))
        return cluster.faults.contains(where: \.isEssential)
          ? .broken(text, remedy: remedy) : .warning(text, remedy: remedy)
      }
      guard !cluster.server.isEmpty else { return .ok("no API server configured; the agent runs without Kubernetes") }
      guard cluster.isNodeKnown else {
        // The first request ends after 15 s at most.
        guard status.agent.upSeconds > 20 else { return .unknown("\(cluster.server) has not answered yet") }
        return .broken(
          "\(cluster.server) does not answer", remedy: "check the network path to the API server; set CLUSTER_ENDPOINT")
      }
      return .ok("\(cluster.server) serves node \(cluster.node)")
    }
  }

  static let probes = Check(
    id: "probes", looksAt: "the agent's answer time, its restarts (/var/log/pods) and its CPU limit (cpu.stat)",
    why: "a probe timeout shorter than the agent's answer time kills a working agent, and pods wait while it restarts"
  ) { facts in
    let remedy =
      "raise timeoutSeconds and failureThreshold of aws-node's probes, or its CPU request and limit "
      + "(kubectl -n kube-system edit ds/aws-node)"
    var signs: [String] = []
    if let agent = facts.agent.value, agent.serves, agent.after > .seconds(1) {
      signs.append("the health service took \(agent.after.brief); the default probe timeout is 1 s")
    }
    if let percent = facts.host.throttledPercent, percent >= 25 {
      signs.append("the CPU limit throttles the agent in \(percent) % of the periods")
    }
    if let restarts = facts.host.restarts.value, restarts >= 3 {
      signs.append("the container restarted \(restarts) times")
    }
    if !signs.isEmpty { return .warning(signs.joined(separator: "; "), remedy: remedy) }
    guard let agent = facts.agent.value, agent.serves else { return .unknown("no agent answers") }
    return .ok("answers in \(agent.after.brief)" + (facts.host.restarts.value.map { ", \($0) restarts" } ?? ""))
  }

  static let settings = Check(
    id: "settings", looksAt: "the agent's environment",
    why: "an invalid setting keeps the agent from starting; conflicting settings have unintended effects"
  ) { facts in
    let remedy = "kubectl -n kube-system set env ds/aws-node NAME=VALUE (docs/configuration.md)"
    if let refused = facts.settings.refused { return .broken(refused, remedy: remedy) }
    guard let settings = facts.settings.settings else { return .unknown("the agent's environment cannot be read") }
    var faults = facts.status.value?.settings.warnings ?? settings.warnings.map { "\($0)" }
    let variables = facts.settings.variables
    let isSet = { (name: String) in !(variables[name] ?? "").isEmpty }
    if !isSet("ENABLE_IPv4"), !isSet("ENABLE_IPv6"), isSet("MY_NODE_NAME") {
      faults.append("neither ENABLE_IPv4 nor ENABLE_IPv6 is set: the manifest is older than the image")
    }
    if settings.minimumIPTarget > 0, settings.warmIPTarget == 0 {
      faults.append("MINIMUM_IP_TARGET without WARM_IP_TARGET: the pool keeps no warm addresses above the minimum")
    }
    let asides = ["WARM_ENI_TARGET", "WARM_PREFIX_TARGET"].filter {
      isSet($0) && !["0", "1"].contains(variables[$0] ?? "")
    }
    if settings.warmIPTarget > 0 || settings.minimumIPTarget > 0, !asides.isEmpty {
      faults.append("\(asides.joined(separator: ", ")) has no effect with WARM_IP_TARGET or MINIMUM_IP_TARGET")
    }
    if settings.usesPrefixes, settings.warmPrefixTarget == 0, settings.warmIPTarget == 0, settings.minimumIPTarget == 0
    {
      faults.append("ENABLE_PREFIX_DELEGATION without a warm target")
    }
    guard faults.isEmpty else { return .warning(listed(faults), remedy: remedy) }
    return .ok("read from \(facts.settings.source)")
  }

  static let conflist = Check(
    id: "conflist", looksAt: "/etc/cni/net.d",
    why:
      "the runtime uses the first file by name; if 10-aws.conflist is not the first, pods get another network or none"
  ) { facts in
    facts.host.conflists.judged { files in
      let restart = "delete the aws-node pod of this node (the new one writes 10-aws.conflist)"
      guard let first = files.first else {
        return .broken("no network configuration: the node stays NotReady", remedy: restart)
      }
      if let bad = files.first(where: { $0.plugins == nil }) {
        return .broken("\(bad.name) is not valid JSON", remedy: "rm /etc/cni/net.d/\(bad.name); \(restart)")
      }
      guard let ours = files.first(where: { $0.plugins?.contains("aws-cni") ?? false }) else {
        return .broken("\(listed(files.map(\.name))): none runs aws-cni", remedy: restart)
      }
      guard ours.name == first.name else {
        return .broken(
          "\(first.name) comes before \(ours.name), so the runtime uses it",
          remedy: "rm /etc/cni/net.d/\(first.name), if you do not want its network")
      }
      if let settings = facts.settings.settings {
        if let prefix = ours.vethPrefix, prefix != settings.vethPrefix {
          return .broken(
            "vethPrefix is \"\(prefix)\" in \(ours.name) and \"\(settings.vethPrefix)\" for the agent",
            remedy: "use the same AWS_VPC_K8S_CNI_VETHPREFIX for both; \(restart)")
        }
        if let mtu = ours.mtu, mtu > settings.eniMTU {
          return .warning(
            "pod MTU \(mtu) is larger than ENI MTU \(settings.eniMTU): large packets are lost",
            remedy: "set POD_MTU to at most AWS_VPC_ENI_MTU; \(restart)")
        }
      }
      return .ok("\(ours.name): \(ours.plugins?.joined(separator: ", ") ?? "")")
    }
  }

  static let versionSkew = Check(
    id: "version-skew", looksAt: "the installed plugin /opt/cni/bin/aws-cni and the agent",
    why: "after an incomplete upgrade or downgrade, plugin and agent may be incompatible"
  ) { facts in
    facts.host.plugin.judged { plugin in
      let remedy =
        "delete the aws-node pod of this node (the new one's init container reinstalls the plugin)"
      guard let commit = plugin.commit else {
        return .warning("\(plugin.path) is not this project's binary", remedy: remedy)
      }
      let agent = facts.status.value.map(\.agent.commit) ?? facts.host.ownCommit
      let whose = facts.status.value == nil ? "this binary" : "the agent"
      guard commit == agent || commit == "unknown" || agent == "unknown" else {
        return .warning("\(plugin.path) was built from \(commit), \(whose) from \(agent)", remedy: remedy)
      }
      return .ok("plugin and \(whose): build \(commit)")
    }
  }

  static let checkpoint = Check(
    id: "checkpoint", looksAt: "the checkpoint and the pods' interfaces",
    why: "addresses of deleted pods stay reserved; pods missing from the checkpoint may lose their addresses"
  ) { facts in
    facts.pods.judged { pods in
      let restart = "restart the agent, which compares the checkpoint with the kernel"
      if !pods.findings.isEmpty {
        return .broken(
          "\(pods.path): \(listed(pods.findings, limit: 3))",
          remedy: "\(restart); \(pods.path).damaged keeps the old file")
      }
      guard let kernel = facts.kernel.value else { return .unknown("cannot list pod interfaces") }
      let veths = kernel.podVeths
      guard pods.exists else {
        guard veths.isEmpty else {
          return .broken("\(pods.path) is missing, but \(veths.count) pod interfaces exist", remedy: restart)
        }
        return .ok("no checkpoint, no pods")
      }
      let stale = pods.pods.filter { pod in
        guard let suffix = pod.suffix, pod.ageSeconds > 60 else { return false }
        return !veths.keys.contains(suffix)
      }
      guard stale.isEmpty else {
        return .warning(
          "addresses of pods without an interface: \(listed(stale.map { "\($0.address) of \($0.name)" }))",
          remedy: "the agent frees them within two minutes (its log names each); if not, \(restart)")
      }
      if pods.hasDamaged {
        return .warning(
          "\(pods.path).damaged: an earlier checkpoint was damaged",
          remedy: "inspect it, then rm \(pods.path).damaged")
      }
      return .ok("\(pods.pods.count) addresses in use, \(veths.count) pod interfaces")
    }
  }
}

extension KernelFacts {
  /// Pods' host interfaces, whatever their prefix, by the last part of their names; the value is the index.
  var podVeths: [String: UInt32] {
    var found: [String: UInt32] = [:]
    for link in links where link.kind == "veth" {
      if let suffix = HostVethName.split(link.name)?.suffix { found[suffix] = link.index }
    }
    return found
  }

  /// Earlier settings that the node's rules must still support.
  func earlier(than settings: Settings) -> EarlierSettings {
    let usesMark = settings.supportsNodePorts || !settings.usesExternalSNAT
    return EarlierSettings(
      vethPrefixes: EarlierSettings.prefixes(links: links, rules: rules, routes: podRoutes)
        .subtracting([settings.vethPrefix]).sorted(),
      marks: EarlierSettings.marks(
        rules: rules, today: usesMark ? settings.connmark : nil, taken: settings.eniMarkMask))
  }
}

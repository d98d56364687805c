// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// EC2 and what it allows.
extension Check {
  static let metadata = Check(
    id: "imds", looksAt: "the instance metadata service",
    why: "without IMDS, the agent cannot start and has no credentials from the instance role"
  ) { facts in
    facts.metadata.judged { metadata in
      guard let error = metadata.error else { return .ok("answered after \(metadata.after.brief)") }
      if metadata.losesTokens {
        return .broken(
          error,
          remedy: "aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2, "
            + "or hostNetwork for the pod")
      }
      return .broken(
        error,
        remedy: "aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled; "
          + "look for a firewall rule that blocks 169.254.169.254")
    }
  }

  static let permissions = Check(
    id: "permissions", looksAt: "EC2 calls denied to the agent, and dry runs of its calls",
    why: "without the permission, ENIs and addresses cannot be added, or ENIs are never deleted"
  ) { facts in
    let codes: Set<String> = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"]
    let refused = facts.status.value?.ec2.calls.filter { codes.contains($0.lastError ?? "") }.map { "ec2:\($0.action)" }
    let denied = Set((refused ?? []) + (facts.cloud.value?.denied ?? []))
    if let cause = facts.status.value?.pool, cause.blockedCause == "missing_permission", denied.isEmpty {
      return .broken(cause.blockedText ?? "a permission is missing", remedy: "attach AmazonEKS_CNI_Policy to the role")
    }
    guard denied.isEmpty else {
      return .broken(
        "missing: \(listed(denied.sorted(), limit: 14))",
        remedy: "attach AmazonEKS_CNI_Policy to the node's (or service account's) role, or add these actions")
    }
    let dryRuns: Set<String>
    switch facts.cloud {
    case .known(let cloud): dryRuns = Set(cloud.granted)
    case .unknown(let why):
      return facts.status.value == nil
        ? .unknown("the agent does not answer, and EC2 cannot be asked: \(why)")
        : .ok("EC2 denied no call of the agent; dry runs: \(why)")
    }
    let calls = facts.status.value?.ec2.calls.filter { $0.lastError == nil && $0.count > 0 }.map { "ec2:\($0.action)" }
    let used = Set(calls ?? []).subtracting(dryRuns)
    let open = withoutDryRun(facts.settings.settings?.family ?? .ipv4).filter { !used.contains($0) }
    let unused = open.isEmpty ? "" : "; EC2 has no dry run of \(listed(open)), and the agent has not used it yet"
    return .ok("granted: \(dryRuns.count) actions by dry runs, \(used.count) more by the agent's calls\(unused)")
  }

  /// Actions of the agent without DryRun. Source: EC2 API Reference.
  private static func withoutDryRun(_ family: AddressFamily) -> [String] {
    switch family {
    case .ipv4: ["ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses"]
    case .ipv6: ["ec2:AssignIpv6Addresses"]
    }
  }

  static let throttling = Check(
    id: "throttling", looksAt: "EC2 calls that were throttled",
    why: "pods wait for addresses while EC2 throttles; the limit applies to the account, not the node"
  ) { facts in
    facts.status.judged { status in
      let throttled = status.ec2.calls.filter { $0.throttled > 0 }.map { "\($0.action) \($0.throttled) of \($0.count)" }
      let held = status.ec2.held.filter { $0.because.hasPrefix("EC2 throttles") }
      let remedy =
        "raise WARM_ENI_TARGET or WARM_IP_TARGET so that pods wait less often; use prefixes; "
        + "find the caller in CloudTrail; ask AWS for a higher rate limit"
      if !held.isEmpty || status.actions.contains(where: { $0.contains("delayed by EC2 throttling") }) {
        return .broken("throttled now: \(listed(held.map { "\($0.work), \($0.because)" } + throttled))", remedy: remedy)
      }
      guard throttled.isEmpty else {
        return .warning("throttled since the agent started: \(listed(throttled))", remedy: remedy)
      }
      return .ok("no call was throttled")
    }
  }

  static let subnetAddresses = Check(
    id: "subnet-addresses", looksAt: "free addresses of the node's subnets",
    why: "in a full subnet, pods stay in ContainerCreating"
  ) { facts in
    let remedy =
      "use a larger subnet (tag it kubernetes.io/role/cni=1), lower warm targets (WARM_IP_TARGET), delete leaked ENIs"
    if let pool = facts.status.value?.pool, pool.blockedCause == "subnet_full" {
      return .broken(pool.blockedText ?? "the subnet is full", remedy: remedy)
    }
    var free: [String: Int] = [:]
    var ages: [String: Int] = [:]
    for subnet in facts.status.value?.subnets ?? [] {
      free[subnet.id] = subnet.free
      ages[subnet.id] = subnet.freeSeconds
    }
    // EC2's current answer counts; the agent's list is as old as its last growth.
    for subnet in facts.cloud.value?.subnets ?? [] where subnet.isUsed || free[subnet.id] != nil {
      free[subnet.id] = subnet.free
      ages[subnet.id] = nil
    }
    guard !free.isEmpty else { return .unknown("neither the agent nor EC2 reports subnets") }
    let sorted = free.sorted { $0.key < $1.key }
    let text = listed(
      sorted.map { id, count in
        "\(id): \(count) free" + (ages[id].map { " \(Duration.seconds($0).brief) ago, by the agent" } ?? "")
      })
    if free.values.allSatisfy({ $0 == 0 }) { return .broken(text, remedy: remedy) }
    if free.values.contains(where: { $0 < 16 }) { return .warning(text, remedy: remedy) }
    return .ok(text)
  }

  static let subnetFragmentation = Check(
    id: "subnet-fragmentation", looksAt: "whether subnets have free prefixes of 16 addresses",
    why: "without a free prefix the pool uses single addresses, so the node can run fewer pods"
  ) { facts in
    facts.status.judged { status in
      guard status.pool.usesPrefixes else { return .ok("prefixes are not used") }
      let remedy =
        "aws ec2 create-subnet-cidr-reservation --reservation-type prefix for the node's subnet, or use a new subnet"
      if status.pool.blockedCause == "no_free_prefix" {
        return .broken(status.pool.blockedText ?? "no free prefix", remedy: remedy)
      }
      let fragmented = status.subnets.filter(\.isFragmented).map(\.id)
      guard fragmented.isEmpty else {
        return .warning("no free prefix in \(listed(fragmented)): single addresses for now", remedy: remedy)
      }
      return .ok("EC2 assigns prefixes")
    }
  }

  static let growth = Check(
    id: "growth", looksAt: "pods waiting for an address, and why the pool does not grow",
    why: "pods stay in ContainerCreating"
  ) { facts in
    facts.status.judged { status in
      let pool = status.pool
      if let text = pool.blockedText {
        let waiting = pool.waiting > 0 ? "\(pool.waiting) pods wait: " : ""
        let remedy = "see the cause in docs/troubleshooting.md, \"A pod gets no address\""
        return pool.waiting > 0 || pool.free == 0
          ? .broken(waiting + text, remedy: remedy) : .warning(waiting + text, remedy: remedy)
      }
      if pool.waiting > 0 {
        return .warning(
          "\(pool.waiting) pods wait, \(pool.pending) addresses requested",
          remedy: "look again in a few seconds; `aws-cni status --watch`")
      }
      return .ok("\(pool.free) addresses free, no pod waits")
    }
  }

  static let podLimit = Check(
    id: "pod-limit", looksAt: "kubelet's maxPods against the ENIs and addresses that the instance supports",
    why: "pods beyond the ENIs' capacity are scheduled here and never get an address"
  ) { facts in
    let limits = ["eni_limit", "enis_take_no_pods", "attachment_limit", "max_pods"]
    if let pool = facts.status.value?.pool, let cause = pool.blockedCause, limits.contains(cause) {
      return .broken(
        pool.blockedText ?? "no more ENIs",
        remedy: "run fewer pods on this node (--max-pods), use a larger instance type, or ENABLE_PREFIX_DELEGATION=true"
      )
    }
    // A container does not see the kubelet, but its agent has read the Node object.
    let limit = facts.host.maxPods.value ?? facts.status.value?.cluster?.podCapacity
    return (limit.map { .known($0) } ?? facts.host.maxPods).judged { maxPods in
      guard let capacity = capacity(facts) else { return .unknown("the instance's limits are unknown") }
      guard maxPods <= capacity else {
        return .warning(
          "kubelet allows \(maxPods) pods, the ENIs support \(capacity) (2 of them on the host network)",
          remedy: "set kubelet --max-pods=\(capacity), or ENABLE_PREFIX_DELEGATION=true")
      }
      return .ok("kubelet \(maxPods), ENIs \(capacity)")
    }
  }

  /// As eni-max-pods.txt counts: two pods (kube-proxy and aws-node) need no address.
  private static func capacity(_ facts: NodeFacts) -> Int? {
    if let pool = facts.status.value?.pool, pool.eniLimit > 0 { return pool.eniLimit * pool.addressesPerENI + 2 }
    guard let type = facts.metadata.value?.instanceType, let limits = InstanceLimits(instanceType: type) else {
      return nil
    }
    let unit = (facts.settings.settings?.usesPrefixes ?? false) && limits.supportsPrefixes ? 16 : 1
    let enis = min(limits.eniLimit, facts.settings.settings?.maxENI ?? limits.eniLimit)
    return enis * (limits.ipv4Limit - 1) * unit + 2
  }

  static let leakedENIs = Check(
    id: "leaked-enis", looksAt: "unattached ENIs of the cluster, older than an hour",
    why: "each holds its addresses, and its security groups and subnet cannot be deleted"
  ) { facts in
    facts.cloud.judged { cloud in
      guard cloud.leaked.isEmpty else {
        return .warning(
          "\(cloud.leaked.count): \(listed(cloud.leaked))",
          remedy: "aws ec2 delete-network-interface --network-interface-id ID; "
            + "unset DISABLE_LEAKED_ENI_CLEANUP, and give the role ec2:DeleteNetworkInterface")
      }
      if let problem = cloud.problems.first(where: { $0.contains("DescribeNetworkInterfaces") }) {
        return .unknown(problem)
      }
      return .ok("none")
    }
  }
}

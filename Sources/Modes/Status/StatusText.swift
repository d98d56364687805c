// SPDX-License-Identifier: Apache-2.0

internal import VPCModel

/// The status as text. A value: the same status gives the same text.
struct StatusText {
  private let status: AgentStatus
  private let podLimit: Int

  init(_ status: AgentStatus, podLimit: Int) {
    self.status = status
    self.podLimit = podLimit
  }

  var text: String {
    ([head + cluster, pool] + [enis, pods, waiters, subnets, calls, kernel, warnings].filter { !$0.isEmpty })
      .joined(separator: "\n")
  }

  private var head: String {
    let agent = status.agent
    let names = [agent.instance, agent.instanceType, agent.zone].filter { !$0.isEmpty }.joined(separator: " ")
    return
      "node       \(names)\nagent      \(agent.version), pid \(agent.pid), up \(StatusText.span(agent.upSeconds))\n"
  }

  private var cluster: String {
    guard let cluster = status.cluster else { return "" }
    var text = "cluster    "
    if cluster.server.isEmpty {
      text +=
        cluster.faults.isEmpty
        ? "no API server configured; running without Kubernetes" : "API server configuration not usable"
    } else {
      text += cluster.server
      if cluster.isNodeKnown {
        text += ", node \(cluster.node)"
        if let pods = cluster.podCapacity { text += ": \(pods) pods" }
        if cluster.isCordoned { text += ", cordoned" }
        if let name = cluster.eniConfig { text += ", ENIConfig \(name)" }
      } else if cluster.faults.isEmpty {
        text += ", no answer yet"
      }
    }
    for fault in cluster.faults {
      text += "\n           cannot use \(fault.text) (for \(StatusText.span(fault.seconds)))"
    }
    return text + "\n"
  }

  private var pool: String {
    let pool = status.pool
    let targets = status.targets
    var text = "addresses  \(pool.assigned) used, \(pool.free) free, \(pool.cooling) cooling"
    // The same terms and sums as in the table of ENIs.
    let keptBack = status.enis.reduce(0) { $0 + $1.keptBack }
    if keptBack > 0 { text += ", \(keptBack) kept back" }
    text += ", \(pool.total) total"
    if pool.pending > 0 { text += ", \(pool.pending) requested" }
    if pool.stray > 0 { text += ", \(pool.stray) in use but not listed by EC2" }
    // Other network cards have limits of their own.
    let managed = status.enis.count { $0.isManaged && $0.card == 0 }
    let unit = pool.isIPv6 ? "one prefix" : pool.usesPrefixes ? "prefixes" : "secondary addresses"
    text += "\ncapacity   \(managed) of \(pool.eniLimit) ENIs, \(pool.addressesPerENI) addresses each by \(unit); "
    text += "\(pool.maxPods) pods\n"
    text += "targets    \(targetText): "
    switch (targets.shortage, targets.surplus) {
    case (0, 0): text += "met"
    case (0, let surplus): text += "met, \(surplus) more than needed"
    case (let shortage, _): text += "\(shortage) addresses short"
    }
    if let blocked = pool.blockedText { text += "\ngrowth     blocked: \(blocked)" }
    for action in status.actions { text += "\nrunning    \(action)" }
    if let old = outdated { text += "\ncustom networking  \(old)" }
    return text + "\n"
  }

  /// Pods outside the ENIConfig's subnet: on earlier ENIs, and on the primary.
  private var outdated: String? {
    guard status.settings.customNetworking else { return nil }
    let pods = status.enis.filter { $0.isOutdated || $0.isPrimary }.reduce(0) { $0 + $1.assigned }
    guard pods > 0 else { return nil }
    return "\(pods) pods run outside ENIConfig's subnet until they end; recycle the node to move them"
  }

  /// The effective targets: WARM_IP_TARGET and MINIMUM_IP_TARGET override the others.
  private var targetText: String {
    let targets = status.targets
    if status.pool.isIPv6 { return "one IPv6 prefix" }
    if targets.warmIP != 0 || targets.minimumIP != 0 {
      return "WARM_IP_TARGET=\(targets.warmIP) MINIMUM_IP_TARGET=\(targets.minimumIP)"
    }
    return status.pool.usesPrefixes
      ? "WARM_PREFIX_TARGET=\(targets.warmPrefix)" : "WARM_ENI_TARGET=\(targets.warmENI)"
  }

  private var enis: String {
    guard !status.enis.isEmpty else { return "" }
    let showsKept = status.enis.contains { $0.keptBack > 0 }
    let rows = status.enis.map { eni -> [String] in
      let state =
        !eni.isManaged
        ? "unmanaged"
        : eni.isExcluded
          ? "excluded" : !eni.isOpen ? "not ready" : eni.isPrimary ? "primary" : eni.isOutdated ? "old subnet" : ""
      return [
        eni.id, eni.card == 0 ? "\(eni.device)" : "\(eni.card)/\(eni.device)", eni.subnet, eni.address,
        eni.table == 254 ? "main" : "\(eni.table)", "\(eni.assigned)", "\(eni.free)", "\(eni.cooling)",
      ] + (showsKept ? ["\(eni.keptBack)"] : []) + [eni.prefixes.isEmpty ? "-" : "\(eni.prefixes.count)", state]
    }
    let names =
      ["ENI", "DEVICE", "SUBNET", "ADDRESS", "TABLE", "USED", "FREE", "COOLING"] + (showsKept ? ["KEPT BACK"] : [])
      + ["PREFIXES", ""]
    return StatusText.table([names] + rows)
  }

  private var pods: String {
    guard !status.pods.isEmpty else { return "" }
    let rows = status.pods.prefix(podLimit).map { pod in
      [
        pod.name.isEmpty ? "(unknown)" : "\(pod.namespace)/\(pod.name)", pod.address,
        pod.eni.isEmpty ? "none" : pod.eni,
        StatusText.span(pod.ageSeconds),
      ]
    }
    let rest = status.pods.count - rows.count
    return (rows.isEmpty ? "" : StatusText.table([["POD", "ADDRESS", "ENI", "AGE"]] + rows))
      + (rest > 0 ? "\(rows.isEmpty ? "" : "… and ")\(rest) pods (--pods=COUNT shows them)\n" : "")
  }

  private var waiters: String {
    guard !status.waiters.isEmpty else { return "" }
    let rows = status.waiters.map { waiter in
      [
        "\(waiter.namespace)/\(waiter.name)", StatusText.span(waiter.waitedSeconds),
        StatusText.span(waiter.leftSeconds),
      ]
    }
    return StatusText.table([["WAITING", "SINCE", "GIVES UP IN"]] + rows)
  }

  private var subnets: String {
    guard !status.subnets.isEmpty else { return "" }
    let rows = status.subnets.map { subnet -> [String] in
      let notes = [
        subnet.isExcluded ? "excluded by tags" : nil, subnet.isPaused ? "was full, paused" : nil,
        subnet.isFragmented ? "no free prefix, using single addresses" : nil,
      ]
      let age = subnet.freeSeconds.map { "\(StatusText.span($0)) ago" } ?? "-"
      let free = subnet.free.map { "\($0)" } ?? "unknown"
      return [subnet.id, free, age, notes.compactMap { $0 }.joined(separator: ", ")]
    }
    return StatusText.table([["SUBNET", "FREE", "EC2 ASKED", ""]] + rows)
  }

  private var calls: String {
    let ec2 = status.ec2
    guard !ec2.calls.isEmpty else { return "" }
    let rows = ec2.calls.map { call in
      [
        call.action, "\(call.count)", "\(call.failed)", "\(call.throttled)",
        (call.lastError ?? "ok") + ", \(StatusText.span(call.lastSeconds)) ago",
      ]
    }
    var text = StatusText.table([["EC2 CALL", "MADE", "FAILED", "THROTTLED", "LAST"]] + rows)
    for hold in ec2.held {
      text += "delayed    \(hold.work): \(hold.because); for pods in \(StatusText.span(hold.urgentSeconds)), "
      text += "for warm targets in \(StatusText.span(hold.patientSeconds))\n"
    }
    return text
  }

  private var kernel: String {
    let kernel = status.kernel
    var text = "network    \(kernel.scheme) rules, firewall: \(kernel.iptables)"
    if let differences = kernel.differences {
      text += differences.isEmpty ? ", no differences" : ", \(differences.count) differences from the desired state"
      for difference in differences { text += "\n           \(difference)" }
    }
    if kernel.repairs > 0 {
      text += "\nrepairs    \(kernel.repairs), the last \(StatusText.span(kernel.lastRepairSeconds ?? 0)) ago"
      if !kernel.lastRepair.isEmpty { text += ": \(kernel.lastRepair)" }
    }
    if let since = status.ec2.reconciledSeconds { text += "\nreconciled \(StatusText.span(since)) ago" }
    return text + "\n"
  }

  private var warnings: String {
    status.settings.warnings.map { "setting    \($0)\n" }.joined()
  }

  /// Columns as wide as their widest cell.
  static func table(_ rows: [[String]]) -> String {
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() where !cell.isEmpty {
        let start = widths[..<column].reduce(0) { $0 + $1 + 2 }
        line += String(repeating: " ", count: max(start - line.count, 0)) + cell
      }
      return line + "\n"
    }.joined()
  }

  /// `45s`, `12m`, `3h20m`, `5d4h`.
  static func span(_ seconds: Int) -> String {
    switch max(seconds, 0) {
    case ..<60: return "\(max(seconds, 0))s"
    case ..<3600: return "\(seconds / 60)m\(seconds < 600 ? "\(seconds % 60)s" : "")"
    case ..<86_400: return "\(seconds / 3600)h\(seconds % 3600 / 60)m"
    default: return "\(seconds / 86_400)d\(seconds % 86_400 / 3600)h"
    }
  }
}

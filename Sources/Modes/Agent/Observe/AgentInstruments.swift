// SPDX-License-Identifier: Apache-2.0

internal import VPCObserve

/// Every metric series of the agent: the only place that defines names and labels. docs/metrics.md describes them.
///
/// Names and labels of the first part are the contract's (amazon-vpc-cni-k8s v1.23, metrics of the agent); those of the
/// second part are this project's additions.
struct AgentInstruments: Sendable {
  // MARK: the contract's

  let addRequests: MetricCounter
  let deleteRequests: MetricCounter
  let assignmentFailures: MetricCounter
  let eniAllocated: MetricGauge
  let eniMax: MetricGauge
  let addressMax: MetricGauge
  let totalAddresses: MetricGauge
  let assignedAddresses: MetricGauge
  let totalPrefixes: MetricGauge
  let assignedPerCIDR: MetricGauge
  let assignedPerENI: MetricGauge
  let forcedENIs: MetricCounter
  let forcedAddresses: MetricCounter
  let reconciled: MetricCounter
  let actionsUnderWay: MetricGauge
  let errors: MetricCounter
  let podENIErrors: MetricCounter
  let callLatency: MetricSummary
  let callErrors: MetricCounter
  let utilityErrors: MetricCounter
  let ec2Requests: MetricCounter
  let ec2Errors: MetricCounter
  let startDuration: MetricHistogram
  let initializationDuration: MetricHistogram
  let connmarkBackend: MetricGauge
  let connmarkReconciled: MetricCounter
  let build: MetricGauge

  // MARK: ours

  let waitingAdds: MetricGauge
  let addWait: MetricHistogram
  let addFailures: MetricCounter
  let freeAddresses: MetricGauge
  let coolingAddresses: MetricGauge
  let pendingAddresses: MetricGauge
  let strayAddresses: MetricGauge
  let reclaimedAddresses: MetricCounter
  let growthBlocked: MetricGauge
  let prefixFallback: MetricGauge
  let subnetPaused: MetricGauge
  let subnetFreeAddresses: MetricGauge
  let subnetExcluded: MetricGauge
  let throttledCalls: MetricCounter
  let firewallBackend: MetricGauge
  let firewallInPlace: MetricGauge
  let forwardDropped: MetricGauge
  let nodeRepairs: MetricCounter
  let nodeRepairFailures: MetricCounter
  let nodeRepairDuration: MetricHistogram
  let nodeRepairsHeld: MetricGauge
  let logLinesDropped: MetricCounter

  /// Seconds; the target is 2.
  private static let repairBuckets: [Double] = [0.15, 0.25, 0.5, 1, 2, 5, 10, 30, 60]
  /// Seconds; up to the default ADD timeout and beyond.
  private static let waitBuckets: [Double] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60]

  init(in registry: MetricRegistry) {
    let counter = { registry.counter("awscni_" + $0, $1, labels: $2) }
    let gauge = { registry.gauge("awscni_" + $0, $1, labels: $2) }

    addRequests = counter("add_ip_req_count", "AddNetwork calls", [])
    deleteRequests = counter("del_ip_req_count", "DelNetwork calls by reason", ["reason"])
    assignmentFailures = counter("no_available_ip_addresses", "AddNetwork calls that got no address", [])
    eniAllocated = gauge("eni_allocated", "ENIs attached that the pool manages", [])
    eniMax = gauge("eni_max", "ENIs that may be attached, minus unmanaged ones", [])
    addressMax = gauge("ip_max", "Addresses for pods that this number of ENIs can hold", [])
    totalAddresses = gauge("total_ip_addresses", "Addresses for pods on this node's ENIs", [])
    assignedAddresses = gauge("assigned_ip_addresses", "Addresses in use", [])
    totalPrefixes = gauge("total_ipv4_prefixes", "IPv4 prefixes delegated to this node's ENIs", [])
    assignedPerCIDR = gauge("assigned_ip_per_cidr", "Addresses in use by address or prefix of an ENI", ["cidr"])
    assignedPerENI = gauge("assigned_ip_per_eni", "Addresses in use by ENI", ["eni"])
    forcedENIs = counter("force_removed_enis", "ENIs removed while pods used them", [])
    forcedAddresses = counter("force_removed_ips", "Addresses removed while pods used them", [])
    reconciled = counter("reconcile_count", "ENIs and addresses that a comparison with EC2 added or removed", ["fn"])
    actionsUnderWay = gauge("ipamd_action_inprogress", "Actions in progress", ["fn"])
    errors = counter("ipamd_error_count", "Actions that failed", ["fn"])
    podENIErrors = counter("pod_eni_error_count", "Failures about security groups for pods", ["fn"])
    callLatency = registry.summary(
      "awscni_aws_api_latency_ms", "EC2 requests and waits for links in milliseconds, quantiles of the last 256",
      labels: ["api", "error", "status"], quantiles: [0.5, 0.9, 0.99])
    callErrors = counter("aws_api_error_count", "EC2 requests that failed, by EC2's error code", ["api", "error"])
    utilityErrors = counter("aws_utils_error_count", "Failed reads of instance metadata", ["fn", "error"])
    ec2Requests = counter("ec2api_req_count", "EC2 requests", ["fn"])
    ec2Errors = counter("ec2api_error_count", "EC2 requests that failed", ["fn"])
    startDuration = registry.histogram(
      "awscni_ipamd_startup_duration_seconds", "From the agent's start to its first answer",
      labels: ["success", "with_api_server", "failure_reason"])
    initializationDuration = registry.histogram(
      "awscni_ipamd_node_initialization_duration_seconds",
      "From the first read of IMDS to a pool that assigns addresses",
      labels: ["success"])
    connmarkBackend = gauge("connmark_backend", "1 for the backend that marks connections on this node", ["backend"])
    connmarkReconciled = counter("connmark_reconcile_total", "Times the connection marks were put in place", ["result"])
    build = gauge("build_info", "1; the release as a label", ["version", "goversion"])

    waitingAdds = gauge("waiting_adds", "AddNetwork calls that wait for an address", [])
    addWait = registry.histogram(
      "awscni_add_wait_seconds", "Time that an AddNetwork call waited for its result", labels: ["success"],
      buckets: AgentInstruments.waitBuckets)
    addFailures = counter("add_failed_count", "AddNetwork calls that got no address, by cause", ["cause"])
    freeAddresses = gauge("free_ip_addresses", "Addresses available now", [])
    coolingAddresses = gauge(
      "cooling_ip_addresses", "Addresses of deleted pods in cooldown", [])
    pendingAddresses = gauge("pending_ip_addresses", "Addresses requested from EC2 or not usable yet", [])
    strayAddresses = gauge("stray_ip_addresses", "Addresses in use that EC2 does not show on any ENI", [])
    reclaimedAddresses = counter(
      "reclaimed_ip_addresses_count", "Addresses freed because their pods were gone without a DEL", [])
    growthBlocked = gauge("growth_blocked", "1 while the pool cannot grow for this cause", ["cause"])
    prefixFallback = gauge(
      "prefix_fallback", "1 while the agent requests single addresses instead of prefixes in this subnet", ["subnet"])
    subnetPaused = gauge(
      "subnet_paused", "1 while the agent requests nothing in this subnet because it was full", ["subnet"])
    subnetFreeAddresses = gauge(
      "subnet_free_addresses", "Free addresses of the subnet, as EC2 last reported", ["subnet"])
    subnetExcluded = gauge("subnet_excluded", "1 for a subnet excluded for new ENIs and addresses, else 0", ["subnet"])
    throttledCalls = counter("ec2api_throttled_count", "EC2 requests that were throttled", ["fn"])
    firewallBackend = gauge(
      "firewall_backend", "1 for the backend that holds the node's SNAT and mark rules", ["backend"])
    firewallInPlace = gauge("firewall_rules_in_place", "1 while all of them are in place, else 0", [])
    forwardDropped = gauge("forward_policy_drop", "1 for a chain whose policy drops forwarded packets", ["chain"])
    nodeRepairs = counter(
      "node_repair_count", "Objects of the node network that another program changed and the agent repaired", ["kind"])
    nodeRepairFailures = counter(
      "node_repair_failed_count", "Objects of the node network that could not be repaired", [])
    nodeRepairDuration = registry.histogram(
      "awscni_node_repair_duration_seconds", "From the kernel's notification of a change until it was repaired",
      buckets: AgentInstruments.repairBuckets)
    nodeRepairsHeld = gauge(
      "node_repair_held", "Objects that another program keeps changing, repaired at most once a minute", [])
    logLinesDropped = counter("log_lines_dropped_count", "Log lines dropped because the log's disk is too slow", [])
  }
}

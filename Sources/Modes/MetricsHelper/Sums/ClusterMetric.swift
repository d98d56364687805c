// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud

/// One sum over the cluster: its source series, and its CloudWatch name.
///
/// Source: the metrics that cni-metrics-helper of amazon-vpc-cni-k8s v1.23 publishes; names, namespace and dimension
/// are the same. Its errors that are fixed here: docs/decisions/0031-sums-of-the-metrics-helper.md.
struct ClusterMetric: Sendable, Hashable {
  enum Kind: Sendable {
    /// The agents' values added up.
    case gauge
    /// What the agents counted since the last round, added up.
    case counter
    /// The highest 0.99 quantile of any agent, milliseconds.
    case latency
  }

  let series: String
  /// In CloudWatch.
  let name: String
  let kind: Kind
  /// Also served to Prometheus under the series' own name.
  let isServedPlain: Bool

  var unit: MetricDatum.Unit { kind == .latency ? .milliseconds : .count }

  private init(_ series: String, _ name: String, _ kind: Kind, plain: Bool = false) {
    self.series = "awscni_" + series
    self.name = name
    self.kind = kind
    isServedPlain = plain
  }

  static let all: [ClusterMetric] = [
    ClusterMetric("assigned_ip_addresses", "assignIPAddresses", .gauge, plain: true),
    ClusterMetric("total_ip_addresses", "totalIPAddresses", .gauge, plain: true),
    ClusterMetric("total_ipv4_prefixes", "totalIPv4Prefixes", .gauge, plain: true),
    ClusterMetric("assigned_ip_per_cidr", "totalAssignedIPv4sPerCidr", .gauge),
    ClusterMetric("eni_allocated", "eniAllocated", .gauge, plain: true),
    ClusterMetric("eni_max", "eniMaxAvailable", .gauge, plain: true),
    ClusterMetric("ip_max", "maxIPAddresses", .gauge, plain: true),
    ClusterMetric("aws_api_latency_ms", "awsAPILatency", .latency),
    ClusterMetric("aws_api_error_count", "awsAPIErr", .counter),
    ClusterMetric("aws_utils_error_count", "awsUtilErr", .counter),
    ClusterMetric("ipamd_error_count", "ipamdErr", .counter),
    ClusterMetric("force_removed_enis", "forceRemoveENI", .counter),
    ClusterMetric("force_removed_ips", "forceRemoveIPs", .counter),
    ClusterMetric("ipamd_action_inprogress", "ipamdActionInProgress", .gauge),
    ClusterMetric("reconcile_count", "reconcileCount", .counter),
    ClusterMetric("add_ip_req_count", "addReqCount", .counter),
    ClusterMetric("del_ip_req_count", "delReqCount", .counter),
    ClusterMetric("pod_eni_error_count", "podENIErr", .counter),
    ClusterMetric("ec2api_req_count", "ec2ApiReqCount", .counter),
    ClusterMetric("ec2api_error_count", "ec2ApiErrCount", .counter),
  ]
}

// SPDX-License-Identifier: Apache-2.0

/// One environment variable of a mode: what docs/configuration.md says of it.
package struct Setting: Sendable, Hashable {
  package enum Shape: String, Sendable { case bool, int, text, list, object, number, word, path }

  package let name: String
  package let shape: Shape
  /// `s` for seconds, `bytes`, or empty.
  package let unit: String
  /// As it would be set; empty if there is no default.
  package let fallback: String
  /// What may be set, for error texts.
  package let allowed: String
  /// What it does, one line.
  package let effect: String

  init(
    _ name: String, _ shape: Shape, _ fallback: String, _ effect: String, allowed: String? = nil, unit: String = ""
  ) {
    self.name = name
    self.shape = shape
    self.unit = unit
    self.fallback = fallback
    self.effect = effect
    self.allowed =
      allowed
      ?? (shape == .bool ? "true or false (1, t, T, TRUE, True, 0, f, F, FALSE, False)" : "any text")
  }

  // MARK: family and interfaces
  static let enableIPv4 = Setting(
    "ENABLE_IPv4", .bool, "true",
    "pods get IPv4 addresses; the opposite of ENABLE_IPv6, also the default")
  static let enableIPv6 = Setting("ENABLE_IPv6", .bool, "false", "pods get IPv6 addresses")
  static let enableV6Egress = Setting("ENABLE_V6_EGRESS", .bool, "false", "IPv6 egress for pods of an IPv4 cluster")
  static let vethPrefix = Setting(
    "AWS_VPC_K8S_CNI_VETHPREFIX", .text, "eni", "first letters of the host interface of a pod",
    allowed: "1 to 4 letters or digits, not eth, lo or vlan")
  static let eniMTU = Setting(
    "AWS_VPC_ENI_MTU", .int, "9001", "MTU of the ENIs", allowed: "576 to 9001 (1280 to 9001 with IPv6)", unit: "bytes")
  static let podMTU = Setting(
    "POD_MTU", .int, "", "MTU of the pods' interfaces; AWS_VPC_ENI_MTU where unset",
    allowed: "576 to 9001 (1280 to 9001 with IPv6)", unit: "bytes")

  // MARK: pool
  static let warmENITarget = Setting(
    "WARM_ENI_TARGET", .int, "1", "ENIs' worth of free addresses to keep", allowed: "a number from 0 on")
  static let warmIPTarget = Setting(
    "WARM_IP_TARGET", .int, "0",
    "free addresses to keep; 0 is unset; sets WARM_ENI_TARGET and WARM_PREFIX_TARGET aside",
    allowed: "a number from 0 on")
  static let minimumIPTarget = Setting(
    "MINIMUM_IP_TARGET", .int, "0",
    "addresses to hold at least; 0 is unset; sets WARM_ENI_TARGET and WARM_PREFIX_TARGET aside",
    allowed: "a number from 0 on")
  static let warmPrefixTarget = Setting(
    "WARM_PREFIX_TARGET", .int, "0", "free prefixes to keep, with ENABLE_PREFIX_DELEGATION",
    allowed: "a number from 0 on")
  static let maxENI = Setting(
    "MAX_ENI", .int, "-1", "ENIs to attach at most; below 1 only the instance type's limit applies",
    allowed: "a number")
  static let prefixDelegation = Setting(
    "ENABLE_PREFIX_DELEGATION", .bool, "false", "ask EC2 for /28 prefixes rather than single addresses")
  static let cooldown = Setting(
    "IP_COOLDOWN_PERIOD", .int, "30", "an address of a deleted pod is not used again for that long",
    allowed: "a number from 0 on", unit: "s")
  static let customNetworking = Setting(
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", .bool, "false", "subnet and groups of pods from ENIConfig objects")
  static let eniConfigAnnotation = Setting(
    "ENI_CONFIG_ANNOTATION_DEF", .text, "k8s.amazonaws.com/eniConfig", "node annotation that names the ENIConfig")
  static let eniConfigLabel = Setting(
    "ENI_CONFIG_LABEL_DEF", .text, "k8s.amazonaws.com/eniConfig", "node label that names the ENIConfig")
  static let manageUnschedulable = Setting(
    "AWS_MANAGE_ENIS_NON_SCHEDULABLE", .bool, "false", "grow and shrink on a cordoned node too")
  static let subnetDiscovery = Setting(
    "ENABLE_SUBNET_DISCOVERY", .bool, "true", "new ENIs in any subnet tagged kubernetes.io/role/cni")
  static let disableProvisioning = Setting(
    "DISABLE_NETWORK_RESOURCE_PROVISIONING", .bool, "false", "ask EC2 for nothing: others attach and assign")
  static let disableLeakedCleanup = Setting(
    "DISABLE_LEAKED_ENI_CLEANUP", .bool, "false", "do not look for ENIs that ended instances left behind")
  static let imdsOnly = Setting("ENABLE_IMDS_ONLY_MODE", .bool, "false", "never call DescribeNetworkInterfaces")
  static let manageUntagged = Setting(
    "MANAGE_UNTAGGED_ENI", .bool, "true", "false: ENIs without this node's tag are unmanaged")
  static let addTimeout = Setting(
    "VPC_CNI_ADD_TIMEOUT", .int, "20", "an ADD waits that long for an address at most", allowed: "1 to 600", unit: "s")
  static let backingStore = Setting(
    "AWS_VPC_K8S_CNI_BACKING_STORE", .path, "/var/run/aws-node/ipam.json", "the checkpoint", allowed: "an absolute path"
  )

  static let maxPodsFile = Setting(
    "VPC_CNI_MAX_PODS_FILE", .path, "/app/eni-max-pods.txt",
    "pods that a node of each instance type may have, a type and a number a line; without the file or a line of this "
      + "type, as many as the type has secondary addresses, and two",
    allowed: "an absolute path")

  // MARK: host network
  static let externalSNAT = Setting(
    "AWS_VPC_K8S_CNI_EXTERNALSNAT", .bool, "false", "no SNAT on the node: a NAT gateway does it")
  static let excludeSNATCIDRs = Setting(
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", .list, "", "destinations reached without SNAT",
    allowed: "IPv4 CIDRs separated by commas")
  static let externalServiceCIDRs = Setting(
    "AWS_EXTERNAL_SERVICE_CIDRS", .list, "", "destinations that pods reach by the main table",
    allowed: "IPv4 CIDRs separated by commas")
  static let nodePortSupport = Setting(
    "AWS_VPC_CNI_NODE_PORT_SUPPORT", .bool, "true", "replies of NodePort services leave by the primary ENI")
  static let randomizeSNAT = Setting(
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT", .word, "prng", "source ports of SNAT", allowed: "prng, hashrandom or none")
  static let connmark = Setting(
    "AWS_VPC_K8S_CNI_CONNMARK", .number, "0x80", "mark of connections that belong to the primary ENI",
    allowed: "a number from 1 to 0xffffffff, decimal, 0x… or 0…")
  static let eniMarkMask = Setting(
    "VPC_CNI_ENI_MARK_MASK", .number, "0x7f", "bits of the packet mark that say which ENI a pod's packet leaves by",
    allowed: "a number from 1 to 0xffffffff without a bit of AWS_VPC_K8S_CNI_CONNMARK, its bits side by side")
  static let podRules = Setting(
    "VPC_CNI_POD_RULES", .word, "constant",
    "constant: policy rules do not grow with the pods; per-pod: two for each pod",
    allowed: "constant or per-pod")

  // MARK: security groups for pods, policy, several cards
  static let podENI = Setting("ENABLE_POD_ENI", .bool, "false", "security groups for pods")
  static let podSecurityGroupMode = Setting(
    "POD_SECURITY_GROUP_ENFORCING_MODE", .word, "strict", "how security groups for pods are enforced",
    allowed: "strict or standard")
  static let networkPolicyMode = Setting(
    "NETWORK_POLICY_ENFORCING_MODE", .word, "", "passed on to the network-policy agent",
    allowed: "none, strict or standard, any case")
  static let multiNIC = Setting("ENABLE_MULTI_NIC", .bool, "false", "pods may ask for an interface on every card")
  static let annotatePodIP = Setting(
    "ANNOTATE_POD_IP", .bool, "false", "write the pod's address into its annotation vpc.amazonaws.com/pod-ips")

  // MARK: logs, metrics, identity
  static let logLevel = Setting(
    "AWS_VPC_K8S_CNI_LOGLEVEL", .word, "debug", "the agent's log level",
    allowed: "debug, info, warn, error or fatal, any case")
  static let logFile = Setting(
    "AWS_VPC_K8S_CNI_LOG_FILE", .path, "/host/var/log/aws-routed-eni/ipamd.log", "the agent's log",
    allowed: "a path, stdout or stderr")
  static let introspectionAddress = Setting(
    "INTROSPECTION_BIND_ADDRESS", .text, "127.0.0.1:61679", "where introspection listens",
    allowed: "ADDRESS:PORT, :PORT for all addresses, or unix:/path")
  static let disableIntrospection = Setting("DISABLE_INTROSPECTION", .bool, "false", "no introspection")
  static let disableMetrics = Setting("DISABLE_METRICS", .bool, "false", "no metrics")
  static let additionalTags = Setting(
    "ADDITIONAL_ENI_TAGS", .object, "{}", "tags for every ENI made; keys with k8s.amazonaws.com are dropped",
    allowed: "a JSON object of strings")
  static let clusterName = Setting("CLUSTER_NAME", .text, "", "cluster in tags of ENIs and filters of subnets")
  static let clusterEndpoint = Setting("CLUSTER_ENDPOINT", .text, "", "the API server, in place of the service address")
  static let httpTimeout = Setting(
    "HTTP_TIMEOUT", .int, "10", "one HTTP request to AWS", allowed: "10 to 600; less is 10", unit: "s")
  static let version = Setting("VPC_CNI_VERSION", .text, Release.version, "the version in user agents")
  static let nodeName = Setting("MY_NODE_NAME", .text, "", "the node's name")
  static let podName = Setting("MY_POD_NAME", .text, "", "the agent's pod, the subject of its events")

  /// Every variable that `Settings` reads, in the order of the documentation.
  package static let all: [Setting] = [
    enableIPv4, enableIPv6, enableV6Egress, vethPrefix, eniMTU, podMTU, warmENITarget, warmIPTarget, minimumIPTarget,
    warmPrefixTarget, maxENI, prefixDelegation, cooldown, customNetworking, eniConfigAnnotation, eniConfigLabel,
    manageUnschedulable, subnetDiscovery, disableProvisioning, disableLeakedCleanup, imdsOnly, manageUntagged,
    addTimeout, backingStore, maxPodsFile, externalSNAT, excludeSNATCIDRs, externalServiceCIDRs, nodePortSupport,
    randomizeSNAT,
    connmark, eniMarkMask, podRules, podENI, podSecurityGroupMode, networkPolicyMode, multiNIC, annotatePodIP, logLevel,
    logFile, introspectionAddress, disableIntrospection, disableMetrics, additionalTags, clusterName, clusterEndpoint,
    httpTimeout, version, nodeName, podName,
  ]
}

// SPDX-License-Identifier: Apache-2.0

/// The words that a setting may have; their raw values are as they are set.
package protocol SettingWord: RawRepresentable<String>, CaseIterable {}

/// One environment variable of a mode: its name, type, default and range, and what docs/configuration.md says of it.
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

  /// The default of a `bool`.
  let flag: Bool
  /// The default of an `int`; 0 if there is none.
  let number: Int
  /// What an `int` may be.
  package let range: ClosedRange<Int>

  private init(
    name: String, shape: Shape, fallback: String, flag: Bool = false, number: Int = 0, range: ClosedRange<Int> = 0...0,
    effect: String, allowed: String, unit: String = ""
  ) {
    self.name = name
    self.shape = shape
    self.unit = unit
    self.fallback = fallback
    self.flag = flag
    self.number = number
    self.range = range
    self.effect = effect
    self.allowed = allowed
  }

  init(_ name: String, _ shape: Shape, _ fallback: String, _ effect: String, allowed: String = "any text") {
    self.init(name: name, shape: shape, fallback: fallback, effect: effect, allowed: allowed)
  }

  init(
    _ name: String, _ fallback: Bool, _ effect: String,
    allowed: String = "true or false (1, t, T, TRUE, True, 0, f, F, FALSE, False)"
  ) {
    self.init(name: name, shape: .bool, fallback: "\(fallback)", flag: fallback, effect: effect, allowed: allowed)
  }

  init(
    _ name: String, _ fallback: Int?, in range: ClosedRange<Int>, _ effect: String, allowed: String? = nil,
    unit: String = ""
  ) {
    self.init(
      name: name, shape: .int, fallback: fallback.map(String.init) ?? "", number: fallback ?? 0, range: range,
      effect: effect, allowed: allowed ?? "\(range.lowerBound) to \(range.upperBound)", unit: unit)
  }

  /// One of the words of an enumeration.
  init<Word: SettingWord>(_ name: String, _ fallback: Word, _ effect: String, inAnyCase: Bool = false) {
    let words = Word.allCases.map(\.rawValue)
    self.init(
      name: name, shape: .word, fallback: fallback.rawValue, effect: effect,
      allowed: words.dropLast().joined(separator: ", ") + " or \(words.last ?? "")" + (inAnyCase ? ", any case" : ""))
  }

  private static func hexadecimal(_ number: UInt32) -> String { "0x" + String(number, radix: 16) }

  // MARK: family and interfaces
  static let enableIPv4 = Setting(
    "ENABLE_IPv4", true,
    "pods get IPv4 addresses; the opposite of ENABLE_IPv6, also the default")
  static let enableIPv6 = Setting("ENABLE_IPv6", false, "pods get IPv6 addresses")
  static let enableV6Egress = Setting("ENABLE_V6_EGRESS", false, "IPv6 egress for pods of an IPv4 cluster")
  static let vethPrefix = Setting(
    "AWS_VPC_K8S_CNI_VETHPREFIX", .text, "eni", "first letters of the host interface of a pod",
    allowed: "1 to 4 letters or digits, not eth, lo or vlan")
  static let eniMTU = Setting(
    "AWS_VPC_ENI_MTU", Settings.largestMTU, in: Settings.mtuRange(.ipv4), "MTU of the ENIs", allowed: mtus,
    unit: "bytes")
  static let podMTU = Setting(
    "POD_MTU", nil, in: Settings.mtuRange(.ipv4), "MTU of the pods' interfaces; AWS_VPC_ENI_MTU where unset",
    allowed: mtus, unit: "bytes")
  private static let mtus =
    "\(Settings.mtuRange(.ipv4).lowerBound) to \(Settings.largestMTU) "
    + "(\(Settings.mtuRange(.ipv6).lowerBound) to \(Settings.largestMTU) with IPv6)"

  // MARK: pool
  private static let targets = 0...100_000
  static let warmENITarget = Setting(
    "WARM_ENI_TARGET", 1, in: targets, "ENIs' worth of free addresses to keep")
  static let warmIPTarget = Setting(
    "WARM_IP_TARGET", 0, in: targets,
    "free addresses to keep; 0 is unset; sets WARM_ENI_TARGET and WARM_PREFIX_TARGET aside")
  static let minimumIPTarget = Setting(
    "MINIMUM_IP_TARGET", 0, in: targets,
    "addresses to hold at least; 0 is unset; sets WARM_ENI_TARGET and WARM_PREFIX_TARGET aside")
  static let warmPrefixTarget = Setting(
    "WARM_PREFIX_TARGET", 0, in: targets, "free prefixes to keep, with ENABLE_PREFIX_DELEGATION")
  static let maxENI = Setting(
    "MAX_ENI", -1, in: Int.min...Int.max, "ENIs to attach at most; below 1 only the instance type's limit applies",
    allowed: "a number")
  static let prefixDelegation = Setting(
    "ENABLE_PREFIX_DELEGATION", false, "ask EC2 for /28 prefixes rather than single addresses")
  static let cooldown = Setting(
    "IP_COOLDOWN_PERIOD", 30, in: 0...86_400, "an address of a deleted pod is not used again for that long", unit: "s")
  static let customNetworking = Setting(
    "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", false, "subnet and groups of pods from ENIConfig objects")
  static let eniConfigAnnotation = Setting(
    "ENI_CONFIG_ANNOTATION_DEF", .text, "k8s.amazonaws.com/eniConfig", "node annotation that names the ENIConfig")
  static let eniConfigLabel = Setting(
    "ENI_CONFIG_LABEL_DEF", .text, "k8s.amazonaws.com/eniConfig", "node label that names the ENIConfig")
  static let manageUnschedulable = Setting(
    "AWS_MANAGE_ENIS_NON_SCHEDULABLE", false, "grow and shrink on a cordoned node too")
  static let subnetDiscovery = Setting(
    "ENABLE_SUBNET_DISCOVERY", true, "new ENIs in any subnet tagged kubernetes.io/role/cni")
  static let disableProvisioning = Setting(
    "DISABLE_NETWORK_RESOURCE_PROVISIONING", false, "ask EC2 for nothing: others attach and assign")
  static let disableLeakedCleanup = Setting(
    "DISABLE_LEAKED_ENI_CLEANUP", false, "do not look for ENIs that ended instances left behind")
  static let imdsOnly = Setting("ENABLE_IMDS_ONLY_MODE", false, "never call DescribeNetworkInterfaces")
  static let manageUntagged = Setting(
    "MANAGE_UNTAGGED_ENI", true, "false: ENIs without this node's tag are unmanaged")
  static let addTimeout = Setting(
    "VPC_CNI_ADD_TIMEOUT", 20, in: 1...600, "an ADD waits that long for an address at most", unit: "s")
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
    "AWS_VPC_K8S_CNI_EXTERNALSNAT", false, "no SNAT on the node: a NAT gateway does it")
  static let excludeSNATCIDRs = Setting(
    "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", .list, "", "destinations reached without SNAT",
    allowed: "IPv4 CIDRs separated by commas")
  static let externalServiceCIDRs = Setting(
    "AWS_EXTERNAL_SERVICE_CIDRS", .list, "", "destinations that pods reach by the main table",
    allowed: "IPv4 CIDRs separated by commas")
  static let nodePortSupport = Setting(
    "AWS_VPC_CNI_NODE_PORT_SUPPORT", true, "replies of NodePort services leave by the primary ENI")
  static let randomizeSNAT = Setting(
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT", Settings.SNATPorts.prng, "source ports of SNAT")
  static let connmark = Setting(
    "AWS_VPC_K8S_CNI_CONNMARK", .number, hexadecimal(PacketMark.primary.value),
    "mark of connections that belong to the primary ENI",
    allowed: "a number from 1 to 0xffffffff, decimal, 0x… or 0…")
  static let eniMarkMask = Setting(
    "VPC_CNI_ENI_MARK_MASK", .number, hexadecimal(PacketMark.defaultENIMask),
    "bits of the packet mark that say which ENI a pod's packet leaves by",
    allowed: "a number from 1 to 0xffffffff without a bit of AWS_VPC_K8S_CNI_CONNMARK, its bits side by side")
  static let podRules = Setting(
    "VPC_CNI_POD_RULES", Settings.PodRules.constant,
    "constant: policy rules do not grow with the pods; per-pod: two for each pod")

  // MARK: security groups for pods, policy, several cards
  static let podENI = Setting("ENABLE_POD_ENI", false, "security groups for pods")
  static let podSecurityGroupMode = Setting(
    "POD_SECURITY_GROUP_ENFORCING_MODE", Settings.PodSecurityGroupMode.strict,
    "how security groups for pods are enforced")
  static let networkPolicyMode = Setting(
    "NETWORK_POLICY_ENFORCING_MODE", .word, "", "passed on to the network-policy agent",
    allowed: "none, strict or standard, any case")
  static let multiNIC = Setting("ENABLE_MULTI_NIC", false, "pods may ask for an interface on every card")
  static let annotatePodIP = Setting(
    "ANNOTATE_POD_IP", false, "write the pod's address into its annotation vpc.amazonaws.com/pod-ips")

  // MARK: logs, metrics, identity
  static let logLevel = Setting(
    "AWS_VPC_K8S_CNI_LOGLEVEL", Settings.LogSeverity.debug, "the agent's log level", inAnyCase: true)
  static let logFile = Setting(
    "AWS_VPC_K8S_CNI_LOG_FILE", .path, "/host/var/log/aws-routed-eni/ipamd.log", "the agent's log",
    allowed: "a path, stdout or stderr")
  static let introspectionAddress = Setting(
    "INTROSPECTION_BIND_ADDRESS", .text, "127.0.0.1:61679", "where introspection listens",
    allowed: "ADDRESS:PORT, :PORT for all addresses, or unix:/path")
  static let disableIntrospection = Setting("DISABLE_INTROSPECTION", false, "no introspection")
  static let disableMetrics = Setting("DISABLE_METRICS", false, "no metrics")
  static let additionalTags = Setting(
    "ADDITIONAL_ENI_TAGS", .object, "{}", "tags for every ENI made; keys with k8s.amazonaws.com are dropped",
    allowed: "a JSON object of strings")
  static let clusterName = Setting("CLUSTER_NAME", .text, "", "cluster in tags of ENIs and filters of subnets")
  static let clusterEndpoint = Setting("CLUSTER_ENDPOINT", .text, "", "the API server, in place of the service address")
  static let httpTimeout = Setting(
    "HTTP_TIMEOUT", 10, in: 10...600, "one HTTP request to AWS", allowed: "10 to 600; less is 10", unit: "s")
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

// SPDX-License-Identifier: Apache-2.0

/// The agent's settings from the environment, read once at startup. Names, defaults and rules are those of `Setting`.
///
/// Variables of the AWS SDKs (AWS_REGION, AWS_ENDPOINT_URL…) belong to the cloud layer and are not here.
package struct Settings: Sendable, Hashable {
  /// The maximum MTU of an ENI: the largest value of AWS_VPC_ENI_MTU, and its default.
  package static let largestMTU = 9001
  static func mtuRange(_ family: AddressFamily) -> ClosedRange<Int> { (family == .ipv6 ? 1280 : 576)...largestMTU }

  /// Warnings about ignored values, to be logged once.
  package let warnings: [SettingWarning]

  package let family: AddressFamily
  package let hasV6Egress: Bool
  package let vethPrefix: String
  package let eniMTU: Int
  package let podMTU: Int

  package let warmENITarget: Int
  /// 0 is unset.
  package let warmIPTarget: Int
  /// 0 is unset.
  package let minimumIPTarget: Int
  package let warmPrefixTarget: Int
  /// Nil if only the instance type's limit applies.
  package let maxENI: Int?
  package let usesPrefixes: Bool
  package let cooldown: Duration
  package let usesCustomNetworking: Bool
  package let eniConfigAnnotation: String
  package let eniConfigLabel: String
  package let managesUnschedulable: Bool
  package let discoversSubnets: Bool
  /// False with DISABLE_NETWORK_RESOURCE_PROVISIONING.
  package let provisions: Bool
  package let cleansLeakedENIs: Bool
  package let usesIMDSOnly: Bool
  package let managesUntaggedENIs: Bool
  package let addTimeout: Duration
  package let checkpointPath: String
  package let maxPodsFile: String

  package let usesExternalSNAT: Bool
  package let excludedSNATCIDRs: [IPPrefix]
  package let externalServiceCIDRs: [IPPrefix]
  package let supportsNodePorts: Bool
  package let snatPorts: SNATPorts
  package let connmark: PacketMark
  package let eniMarkMask: UInt32
  package let podRules: PodRules

  package let usesPodENIs: Bool
  package let podSecurityGroupMode: PodSecurityGroupMode
  /// Verbatim; empty if unset.
  package let networkPolicyMode: String
  package let usesAllCards: Bool
  package let annotatesPodIP: Bool

  package let logLevel: LogSeverity
  package let logFile: String
  /// Nil if introspection is disabled.
  package let introspectionAddress: ListenAddress?
  package let servesMetrics: Bool
  /// By key.
  package let additionalTags: [String: String]
  package let clusterName: String
  package let clusterEndpoint: String
  package let httpTimeout: Duration
  package let version: String
  package let nodeName: String
  package let podName: String

  package enum SNATPorts: String, SettingWord, Sendable { case prng, hashrandom, none }
  package enum PodRules: String, SettingWord, Sendable { case constant, perPod = "per-pod" }
  package enum PodSecurityGroupMode: String, SettingWord, Sendable { case strict, standard }
  package enum LogSeverity: String, SettingWord, Sendable { case debug, info, warn, error, fatal }

  /// - Parameter environment: the process's environment.
  /// - Throws: `SettingError` naming the first variable whose value is invalid and for which amazon-vpc-cni-k8s does
  ///   not fall back either.
  package init(environment: [String: String]) throws(SettingError) {
    var reader = SettingReader(environment: environment)
    try reader.refuseControlCharacters()

    let hasIPv6 = reader.bool(.enableIPv6)
    let hasIPv4 = reader.bool(.enableIPv4, default: !hasIPv6)
    guard hasIPv4 != hasIPv6 else {
      throw SettingError(
        name: Setting.enableIPv6.name, value: "\(hasIPv6)",
        allowed: "the opposite of \(Setting.enableIPv4.name), which is \"\(hasIPv4)\"")
    }
    family = hasIPv6 ? .ipv6 : .ipv4
    hasV6Egress = reader.bool(.enableV6Egress)
    vethPrefix = try Settings.vethPrefix(reader)
    eniMTU = try reader.strictInt(.eniMTU, in: Settings.mtuRange(family))
    podMTU = try reader.strictInt(.podMTU, in: Settings.mtuRange(family), default: eniMTU)

    warmENITarget = reader.int(.warmENITarget)
    warmIPTarget = reader.int(.warmIPTarget)
    minimumIPTarget = reader.int(.minimumIPTarget)
    warmPrefixTarget = reader.int(.warmPrefixTarget)
    let limit = reader.int(.maxENI)
    maxENI = limit >= 1 ? limit : nil
    usesPrefixes = reader.bool(.prefixDelegation)
    cooldown = .seconds(try reader.strictInt(.cooldown))
    usesCustomNetworking = reader.bool(.customNetworking)
    eniConfigAnnotation = reader.textOrDefault(.eniConfigAnnotation)
    eniConfigLabel = reader.textOrDefault(.eniConfigLabel)
    managesUnschedulable = reader.bool(.manageUnschedulable)
    discoversSubnets = reader.bool(.subnetDiscovery)
    provisions = !reader.bool(.disableProvisioning)
    usesIMDSOnly = reader.bool(.imdsOnly)
    let leavesLeaked = reader.bool(.disableLeakedCleanup)
    cleansLeakedENIs = !leavesLeaked && !hasIPv6 && provisions && !usesIMDSOnly
    managesUntaggedENIs = reader.bool(.manageUntagged)
    addTimeout = .seconds(try reader.strictInt(.addTimeout))
    checkpointPath = try Settings.absolutePath(.backingStore, reader)
    maxPodsFile = try Settings.absolutePath(.maxPodsFile, reader)

    usesExternalSNAT = reader.bool(.externalSNAT)
    excludedSNATCIDRs = reader.cidrs(.excludeSNATCIDRs)
    externalServiceCIDRs = reader.cidrs(.externalServiceCIDRs)
    supportsNodePorts = reader.bool(.nodePortSupport)
    snatPorts = reader.word(.randomizeSNAT)
    connmark = Settings.connmark(&reader)
    eniMarkMask = try Settings.eniMarkMask(reader, connmark: connmark)
    podRules = try reader.strictWord(.podRules)

    usesPodENIs = reader.bool(.podENI)
    podSecurityGroupMode = reader.word(.podSecurityGroupMode)
    networkPolicyMode = try Settings.networkPolicyMode(reader)
    usesAllCards = reader.bool(.multiNIC)
    annotatesPodIP = reader.bool(.annotatePodIP)

    logLevel = reader.word(.logLevel)
    logFile = reader.textOrDefault(.logFile)
    let isIntrospectionOff = reader.bool(.disableIntrospection)
    let address = try Settings.listenAddress(.introspectionAddress, reader)
    introspectionAddress = isIntrospectionOff ? nil : address
    servesMetrics = !reader.bool(.disableMetrics)
    additionalTags = Settings.tags(&reader)
    clusterName = reader.text(.clusterName) ?? ""
    clusterEndpoint = reader.text(.clusterEndpoint) ?? ""
    httpTimeout = .seconds(reader.int(.httpTimeout))
    version = reader.textOrDefault(.version)
    nodeName = reader.text(.nodeName) ?? ""
    podName = reader.text(.podName) ?? ""
    warnings = reader.warnings
  }
}

// SPDX-License-Identifier: Apache-2.0

import Testing
import VPCModel

@Suite struct SettingsTests {
  @Test func emptyEnvironmentGivesTheDefaults() throws {
    let settings = try Settings(environment: [:])
    #expect(settings.warnings == [])
    #expect(settings.family == .ipv4)
    #expect(settings.vethPrefix == "eni")
    #expect(settings.eniMTU == 9001)
    #expect(settings.podMTU == 9001)
    #expect(settings.warmENITarget == 1)
    #expect(settings.warmIPTarget == 0)
    #expect(settings.minimumIPTarget == 0)
    #expect(settings.maxENI == nil)
    #expect(!settings.usesPrefixes)
    #expect(settings.cooldown == .seconds(30))
    #expect(settings.addTimeout == .seconds(20))
    #expect(settings.provisions)
    #expect(settings.discoversSubnets)
    #expect(settings.cleansLeakedENIs)
    #expect(settings.checkpointPath == Checkpoint.path)
    #expect(settings.connmark == .primary)
    #expect(settings.eniMarkMask == 0x7f)
    #expect(settings.podRules == .constant)
    #expect(settings.snatPorts == .prng)
    #expect(settings.logLevel == .debug)
    #expect(settings.introspectionAddress?.description == "127.0.0.1:61679")
    #expect(settings.servesMetrics)
    #expect(settings.httpTimeout == .seconds(10))
  }

  /// The defaults in the table are the ones that the agent uses.
  @Test(arguments: Setting.all.filter { !$0.fallback.isEmpty }) func writtenDefaultIsTheDefault(_ setting: Setting)
    throws
  {
    let settings = try Settings(environment: [setting.name: setting.fallback])
    #expect(settings == (try Settings(environment: [:])))
  }

  @Test func namesAreUniqueAndDescribed() {
    #expect(Set(Setting.all.map(\.name)).count == Setting.all.count)
    for setting in Setting.all {
      #expect(!setting.effect.isEmpty && !setting.effect.hasSuffix("."), "\(setting.name)")
      if setting.shape == .int && setting.name.contains("TIMEOUT") { #expect(setting.unit == "s") }
    }
  }

  @Test(arguments: ["1", "t", "T", "TRUE", "true", "True"]) func goSpellingsOfTrue(_ text: String) throws {
    let settings = try Settings(environment: ["ENABLE_PREFIX_DELEGATION": text])
    #expect(settings.usesPrefixes)
    #expect(settings.warnings == [])
  }

  @Test(arguments: ["0", "f", "F", "FALSE", "false", "False"]) func goSpellingsOfFalse(_ text: String) throws {
    #expect(!(try Settings(environment: ["ENABLE_SUBNET_DISCOVERY": text])).discoversSubnets)
  }

  /// If the contract falls back, a warning names the variable, its value, what is allowed and what is used.
  @Test(arguments: [
    ("ENABLE_PREFIX_DELEGATION", "yes", "using false"), ("WARM_ENI_TARGET", "-1", "using 1"),
    ("WARM_IP_TARGET", "many", "using 0"), ("MINIMUM_IP_TARGET", "-5", "using 0"),
    ("WARM_PREFIX_TARGET", "1.5", "using 0"), ("MAX_ENI", "x", "using -1"),
    ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "dice", "using prng"), ("AWS_VPC_K8S_CNI_CONNMARK", "0", "using 0x80"),
    ("AWS_VPC_K8S_CNI_CONNMARK", "0x1ffffffff", "using 0x80"), ("AWS_VPC_K8S_CNI_LOGLEVEL", "loud", "using debug"),
    ("POD_SECURITY_GROUP_ENFORCING_MODE", "lax", "using strict"), ("HTTP_TIMEOUT", "5", "using 10"),
    ("ADDITIONAL_ENI_TAGS", "{", "using no additional tags"), ("ADDITIONAL_ENI_TAGS", "[1]", "no additional tags"),
    ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/8,nonsense", "using the rest of the list"),
  ])
  func fallsBackWithAWarning(name: String, value: String, used: String) throws {
    let settings = try Settings(environment: [name: value])
    #expect(settings.warnings.count == 1)
    let text = settings.warnings.first.map { "\($0)" } ?? ""
    #expect(text.hasPrefix("\(name) is \""))
    #expect(text.contains(used), "\(text)")
  }

  @Test(arguments: [
    ("AWS_VPC_ENI_MTU", "575"), ("AWS_VPC_ENI_MTU", "9002"), ("POD_MTU", "big"), ("IP_COOLDOWN_PERIOD", "-1"),
    ("IP_COOLDOWN_PERIOD", "30s"), ("AWS_VPC_K8S_CNI_VETHPREFIX", "longer"), ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth"),
    ("AWS_VPC_K8S_CNI_VETHPREFIX", "a/b"), ("NETWORK_POLICY_ENFORCING_MODE", "soft"), ("ENABLE_IPv4", "false"),
    ("VPC_CNI_ADD_TIMEOUT", "0"), ("VPC_CNI_POD_RULES", "none"), ("VPC_CNI_ENI_MARK_MASK", "0x80"),
    ("VPC_CNI_ENI_MARK_MASK", "0x5"), ("VPC_CNI_ENI_MARK_MASK", "mask"),
    ("AWS_VPC_K8S_CNI_BACKING_STORE", "ipam.json"), ("INTROSPECTION_BIND_ADDRESS", "61679"),
    ("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:0"), ("INTROSPECTION_BIND_ADDRESS", "127.0.0.1:65536"),
    ("INTROSPECTION_BIND_ADDRESS", "example.com:61679"), ("INTROSPECTION_BIND_ADDRESS", "::1:61679"),
    ("INTROSPECTION_BIND_ADDRESS", "unix:relative.sock"), ("INTROSPECTION_BIND_ADDRESS", "unix:"),
    ("INTROSPECTION_BIND_ADDRESS", "unix:/" + String(repeating: "x", count: 107)),
  ])
  func refusedNamingVariableAndValue(name: String, value: String) {
    let error = #expect(throws: SettingError.self) { _ = try Settings(environment: [name: value]) }
    #expect(error?.allowed.isEmpty == false)
    if name != "ENABLE_IPv4" {
      #expect(error?.name == name)
      #expect(error?.value == value)
      #expect("\(error.map { "\($0)" } ?? "")".hasPrefix("\(name) is \"\(value)\": allowed is "))
    }
  }

  @Test(arguments: [
    (nil, "127.0.0.1:61679"), ("127.0.0.1:1", "127.0.0.1:1"), ("localhost:80", "127.0.0.1:80"), (":61679", ":61679"),
    ("[::1]:61679", "[::1]:61679"), ("unix:/run/ipamd/intro.sock", "unix:/run/ipamd/intro.sock"),
  ])
  func introspectionAddresses(_ value: String?, _ address: String) throws {
    let environment = value.map { ["INTROSPECTION_BIND_ADDRESS": $0] } ?? [:]
    #expect(try Settings(environment: environment).introspectionAddress.map { "\($0)" } == address)
    let off = environment.merging(["DISABLE_INTROSPECTION": "true"]) { first, _ in first }
    #expect(try Settings(environment: off).introspectionAddress == nil)
  }

  @Test func families() throws {
    #expect(try Settings(environment: ["ENABLE_IPv6": "true"]).family == .ipv6)
    #expect(try Settings(environment: ["ENABLE_IPv6": "true", "ENABLE_IPv4": "false"]).family == .ipv6)
    #expect(throws: SettingError.self) {
      try Settings(environment: ["ENABLE_IPv6": "true", "ENABLE_IPv4": "true"])
    }
    #expect(throws: SettingError.self) { try Settings(environment: ["ENABLE_IPv6": "true", "POD_MTU": "1279"]) }
    // The init container gets ENABLE_IPv6 only; the agent needs more.
    for (more, isRefused) in [
      ([:], true), (["ENABLE_PREFIX_DELEGATION": "true"], false),
      (["ENABLE_PREFIX_DELEGATION": "true", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true"], true),
    ] {
      let settings = try Settings(environment: more.merging(["ENABLE_IPv6": "true"]) { first, _ in first })
      #expect((try? settings.checkFamily()) == nil ? isRefused : !isRefused, "\(more)")
    }
    try Settings(environment: [:]).checkFamily()
  }

  @Test func listsAreNormalised() throws {
    let settings = try Settings(environment: [
      "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": " 10.1.2.3/8 ,192.168.0.0/16,,10.0.0.0/8"
    ])
    #expect(settings.excludedSNATCIDRs.map(\.description) == ["10.0.0.0/8", "192.168.0.0/16"])
    #expect(settings.warnings == [])
  }

  @Test func tagsDropReservedKeys() throws {
    let settings = try Settings(environment: [
      "ADDITIONAL_ENI_TAGS": #"{"team":"net","node.k8s.amazonaws.com/instance_id":"i-1","n":1}"#
    ])
    #expect(settings.additionalTags == ["team": "net"])
    #expect(settings.warnings.count == 2)
  }

  @Test func marksInEveryNotation() throws {
    for text in ["0x100", "256", "0400"] {
      let settings = try Settings(environment: ["AWS_VPC_K8S_CNI_CONNMARK": text])
      #expect(settings.connmark == PacketMark(value: 0x100, mask: 0x100))
    }
    #expect(throws: SettingError.self) { try Settings(environment: ["AWS_VPC_K8S_CNI_CONNMARK": "0x40"]) }
    let moved = try Settings(environment: ["AWS_VPC_K8S_CNI_CONNMARK": "0x40", "VPC_CNI_ENI_MARK_MASK": "0x7f0000"])
    #expect(moved.eniMarkMask == 0x7f0000)
  }

  @Test func leakedENIsAreLeftInSomeModes() throws {
    for name in ["DISABLE_LEAKED_ENI_CLEANUP", "ENABLE_IPv6", "DISABLE_NETWORK_RESOURCE_PROVISIONING"] {
      #expect(!(try Settings(environment: [name: "true"])).cleansLeakedENIs)
    }
    #expect(!(try Settings(environment: ["ENABLE_IMDS_ONLY_MODE": "true"])).cleansLeakedENIs)
  }

  @Test func poolSettingsFollowTheInstance() throws {
    let settings = try Settings(environment: ["ENABLE_PREFIX_DELEGATION": "true", "MAX_ENI": "2"])
    let nitro = try #require(InstanceLimits(instanceType: "m5.large"))
    let pool = settings.pool(limits: nitro, maxPods: 29)
    #expect(pool.usesPrefixes)
    #expect(pool.eniLimit == 2)
    #expect(pool.slotsPerENI == 9)
    let xen = try #require(InstanceLimits(instanceType: "c4.large"))
    #expect(!settings.pool(limits: xen, maxPods: 29).usesPrefixes)
  }
}

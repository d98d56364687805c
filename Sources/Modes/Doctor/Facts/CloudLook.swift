// SPDX-License-Identifier: Apache-2.0

internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// Queries IMDS and EC2 with the agent's variables, each once and with tight limits.
struct CloudLook: Sendable {
  private let access: CloudAccess?
  private let problem: String
  private let variables: [String: String]

  /// - Parameter variables: the agent's environment: the credentials and endpoints are its own then.
  init(variables: [String: String]) {
    self.variables = variables
    do {
      // Only AWS settings matter here; a separate check reports refused settings.
      let settings = try (try? Settings(environment: variables)) ?? Settings(environment: [:])
      access = try CloudAccess(
        environment: variables, userAgent: "amazon-vpc-cni-k8s/\(settings.version)", timeout: settings.httpTimeout,
        adjust: { limits in
          limits.deadline = .milliseconds(2500)
          limits.attemptTimeout = .seconds(1)
          limits.retry = RetryPolicy(attempts: 1, base: .milliseconds(100), cap: .milliseconds(100))
        })
      problem = ""
    } catch {
      access = nil
      problem = CauseChain.text(error)
    }
  }

  /// IMDS data, read once for all checks.
  struct Metadata: Sendable {
    var facts = MetadataFacts()
    var identity: InstanceIdentity?
    var interfaces: [IMDSNetworkInterface]?
    /// Why `interfaces` is missing.
    var problem = ""
  }

  /// One request after another: IMDS has a rate limit per node.
  func metadata() async -> Metadata {
    var seen = Metadata()
    guard let access else {
      seen.facts.error = problem
      seen.problem = problem
      return seen
    }
    let began = ContinuousClock.now
    do throws(IMDSError) {
      let identity = try await access.imds.instanceIdentity()
      seen.identity = identity
      seen.facts.instanceType = identity.instanceType
      seen.facts.after = began.duration(to: .now)
      seen.interfaces = try await access.imds.interfaces()
    } catch {
      seen.problem = CauseChain.text(error)
      guard seen.identity == nil else { return seen }
      seen.facts.error = seen.problem
      seen.facts.losesTokens = error.code == .tokenRefused
      seen.facts.after = began.duration(to: .now)
    }
    return seen
  }

  /// The attached ENIs from IMDS, for the comparison with the kernel.
  func wanted(_ settings: SettingsFacts, _ metadata: Metadata) -> Fact<WantedNetwork> {
    guard let settings = settings.settings else { return .unknown("the agent's settings are unknown") }
    guard let interfaces = metadata.interfaces else {
      return .unknown("cannot list ENIs from IMDS: \(metadata.problem)")
    }
    return .known(WantedNetwork(settings: settings, interfaces: interfaces))
  }

  func cloud(_ metadata: Metadata) async -> Fact<CloudFacts> {
    guard let access, let identity = metadata.identity, let interfaces = metadata.interfaces else {
      return .unknown("cannot ask EC2 without IMDS: \(metadata.problem)")
    }
    let ec2: EC2Client
    do throws(InvalidSetting) {
      ec2 = try access.ec2(region: identity.region)
    } catch {
      return .unknown(CauseChain.text(error))
    }
    guard let primary = interfaces.first(where: { $0.deviceNumber == 0 && $0.networkCard == 0 }) else {
      return .unknown("IMDS shows no primary interface")
    }
    async let trials = permissions(ec2, identity, primary)
    async let subnets = subnets(ec2, identity, interfaces)
    async let leaked = leaked(ec2, primary.vpcID)
    var facts = CloudFacts()
    for (action, permission) in await trials {
      switch permission {
      case .granted: facts.granted.append("ec2:\(action)")
      case .denied: facts.denied.append("ec2:\(action)")
      case .unknown(let why): facts.problems.append(why)
      }
    }
    switch await subnets {
    case .known(let found): facts.subnets = found
    case .unknown(let why): facts.problems.append(why)
    }
    switch await leaked {
    case .known(let found): facts.leaked = found
    case .unknown(let why): facts.problems.append(why)
    }
    if facts.granted.isEmpty, facts.denied.isEmpty, let why = facts.problems.first { return .unknown(why) }
    return .known(facts)
  }

  // MARK: questions

  /// Dry runs of the agent's calls. Each names the primary ENI if it names one: even if a dry run were executed, EC2
  /// would refuse to attach, detach or delete it. AssignPrivateIpAddresses and UnassignPrivateIpAddresses have no dry
  /// run.
  private func permissions(
    _ ec2: EC2Client, _ identity: InstanceIdentity, _ primary: IMDSNetworkInterface
  ) async -> [(String, EC2Client.Permission)] {
    let eni = ("NetworkInterfaceId", primary.id.text)
    var trials: [(String, [(String, String)])] = [
      ("DescribeNetworkInterfaces", []), ("DescribeSubnets", []), ("DescribeInstanceTypes", []),
      ("CreateNetworkInterface", [("SubnetId", primary.subnetID)]),
      ("AttachNetworkInterface", [eni, ("InstanceId", identity.instanceID), ("DeviceIndex", "1")]),
      ("DeleteNetworkInterface", [eni]),
      ("ModifyNetworkInterfaceAttribute", [eni, ("Description.Value", "dry run")]),
      ("CreateTags", [("ResourceId.1", primary.id.text), ("Tag.1.Key", "vpc-cni-doctor"), ("Tag.1.Value", "dry run")]),
    ]
    var unasked: [(String, EC2Client.Permission)] = []
    do throws(EC2Error) {
      // IMDS has no attachment ids.
      let attachment = try await ec2.describeNetworkInterfaces([primary.id]).first?.attachment?.id
      trials.append(("DetachNetworkInterface", [("AttachmentId", attachment ?? "")]))
    } catch {
      unasked.append(("DetachNetworkInterface", .unknown(CauseChain.text(error))))
    }
    return await withTaskGroup(of: (Int, String, EC2Client.Permission).self) { group in
      for (place, trial) in trials.enumerated() {
        group.addTask { (place, trial.0, await ec2.dryRun(trial.0, fields: trial.1.map { (name: $0.0, value: $0.1) })) }
      }
      var results: [(Int, String, EC2Client.Permission)] = []
      for await result in group { results.append(result) }
      return results.sorted { $0.0 < $1.0 }.map { ($0.1, $0.2) } + unasked
    }
  }

  /// All subnets of the zone, like the agent's listing; the agent's status says which of them it uses.
  private func subnets(
    _ ec2: EC2Client, _ identity: InstanceIdentity, _ interfaces: [IMDSNetworkInterface]
  ) async -> Fact<[CloudFacts.Subnet]> {
    do throws(EC2Error) {
      let used = Set(interfaces.map(\.subnetID))
      let found = try await ec2.describeSubnets(filters: [
        EC2Filter("vpc-id", Set(interfaces.map(\.vpcID)).sorted()),
        EC2Filter("availability-zone", [identity.availabilityZone]),
      ])
      return .known(
        found.map { CloudFacts.Subnet(id: $0.id, free: $0.availableAddresses, isUsed: used.contains($0.id)) }
          .sorted { $0.id < $1.id })
    } catch {
      return .unknown(CauseChain.text(error))
    }
  }

  /// Tags as the agent writes them. Source: contract of amazon-vpc-cni-k8s v1.23, ENI tags.
  private func leaked(_ ec2: EC2Client, _ vpc: String) async -> Fact<[String]> {
    let prefix = "node.k8s.amazonaws.com"
    var filters = [
      EC2Filter("tag-key", ["\(prefix)/instance_id"]), EC2Filter("status", ["available"]), EC2Filter("vpc-id", [vpc]),
    ]
    if let cluster = variables["CLUSTER_NAME"], !cluster.isEmpty {
      filters.append(EC2Filter("tag:cluster.k8s.amazonaws.com/name", [cluster]))
    }
    do throws(EC2Error) {
      let found = try await ec2.describeNetworkInterfaces(filters: filters)
      let now = ec2.serviceTime
      return .known(
        found.filter { eni in
          guard eni.attachment == nil, eni.description.hasPrefix("aws-K8S-") else { return false }
          let created = eni.tags["\(prefix)/createdAt"].flatMap { UTCTime(iso8601: $0) }
          return created.map { now.seconds(since: $0) > 3600 } ?? true
        }.map(\.id.text).sorted())
    } catch {
      return .unknown(CauseChain.text(error))
    }
  }
}

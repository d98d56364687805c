// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCSystem

/// What the instance type allows, and how many pods the node may have.
struct NodeCapacity: Sendable {
  let limits: InstanceLimits
  let maxPods: Int

  /// From the built-in table and VPC_CNI_MAX_PODS_FILE; EC2 is asked only about a type that the table lacks.
  ///
  /// - Throws: `NodeIdentityError.unknownType` if EC2 does not know it either, `noPrefixes` if it cannot serve
  ///   IPv6 pods; `EC2Error`.
  static func read(
    of type: String, _ settings: Settings, _ ec2: EC2Client, _ logger: Logger
  ) async throws -> NodeCapacity {
    var limits = InstanceLimits(instanceType: type)
    if limits == nil, let asked = try await ec2.describeInstanceType(type) {
      limits = InstanceLimits(asked)
      logger.notice(
        "instance type limits read from EC2",
        metadata: ["type": "\(type)", "enis": "\(asked.maximumInterfaces)", "addresses": "\(asked.ipv4PerInterface)"])
    }
    guard let limits else { throw NodeIdentityError.unknownType(type) }
    guard settings.family == .ipv4 || limits.supportsPrefixes else { throw NodeIdentityError.noPrefixes(type) }
    let listed = maxPods(of: type, file: settings.maxPodsFile, logger)
    return NodeCapacity(limits: limits, maxPods: listed ?? limits.maxPods(settings))
  }

  private static func maxPods(of type: String, file: String, _ logger: Logger) -> Int? {
    do {
      return try MaxPodsFile.pods(of: type, in: try BoundedFile.read(file, limit: 1 << 20))
    } catch let error as FileError where error.isNotFound {
      return nil
    } catch {
      logger.warning(
        "cannot use the max-pods file; using the limits of the instance type",
        metadata: ["file": "\(file)", "error": "\(CauseChain.text(error))"])
      return nil
    }
  }
}

extension InstanceLimits {
  init(_ asked: EC2InstanceType) {
    self.init(
      eniLimit: asked.maximumInterfaces, ipv4Limit: asked.ipv4PerInterface,
      cards: asked.cards.map(\.maximumInterfaces),
      hypervisor: asked.hypervisor.flatMap(InstanceLimits.Hypervisor.init(rawValue:)) ?? .unknown,
      isBareMetal: asked.isBareMetal)
  }

  /// The pods that EKS allows a node of this type: one for each secondary address, and two on the host's network.
  /// Source: eni-max-pods.txt of amazon-eks-ami, which is this formula for every type. With prefixes each of these
  /// slots holds 16 addresses; the actual limit is kubelet's --max-pods, which this release does not read.
  func maxPods(_ settings: Settings) -> Int {
    let places = eniLimit * max(ipv4Limit - 1, 0)
    return (settings.usesPrefixes && supportsPrefixes ? places * PoolSettings.addressesPerPrefix : places) + 2
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel

/// Reading what is attached.
extension NodeENIs {
  func list() async -> ActionResult {
    let asked = PoolClock.now().instant
    do throws(EC2Error) {
      let enis = try await describe()
      for eni in enis where !eni.cidrs.isEmpty {
        // What a lost answer assigned must be led by its ENI before the pool gives it out.
        do {
          try await network.addSources(eni.cidrs, of: eni.id)
        } catch {
          return .failed(ActionFailure(.other(CauseChain.text(error))))
        }
      }
      return .listed(ENIListing(enis: enis, askedAt: asked, isAuthoritative: true))
    } catch {
      return failed(error)
    }
  }

  /// Asks EC2 for everything attached to this instance, in one call, and enters it into the directory.
  func describe() async throws(EC2Error) -> [ENIObservation] {
    try await ec2.describeNetworkInterfaces(instanceID: identity.instance.instanceID).compactMap(observe)
  }

  /// The same from IMDS, which lags and knows no tags: for a start while EC2 does not answer.
  func describe(from imds: IMDSClient) async throws -> [ENIObservation] {
    try await imds.interfaces().compactMap { interface in
      guard let subnet = SubnetID(interface.subnetID) else { return nil }
      enter(interface)
      let singles = interface.ipv4Addresses.dropFirst().map { IPPrefix(single: $0) }
      return ENIObservation(
        id: interface.id, device: interface.deviceNumber, card: interface.networkCard, subnet: subnet,
        primaryAddress: interface.ipv4Addresses.first, cidrs: singles + interface.ipv4Prefixes,
        isManaged: interface.networkCard == 0)
    }
  }

  /// Enters what IMDS knows and EC2's listing lacks: the subnet's CIDR.
  func enter(_ interface: IMDSNetworkInterface) {
    guard let subnet = SubnetID(interface.subnetID) else { return }
    if let cidr = interface.subnetIPv4CIDR { directory.setCIDR(cidr, of: subnet) }
    guard directory.entry(for: interface.id) == nil else { return }
    directory.set(
      ENIDirectory.Entry(
        mac: interface.mac, subnet: subnet, attachmentID: nil,
        isPrimary: interface.networkCard == 0 && interface.deviceNumber == 0), for: interface.id)
  }

  private func observe(_ found: EC2NetworkInterface) -> ENIObservation? {
    // An ENI on its way out is gone for the pool; one on its way in is there.
    guard let attachment = found.attachment, attachment.status != "detaching", attachment.status != "detached",
      let subnet = SubnetID(found.subnetID)
    else { return nil }
    let isPrimary = attachment.networkCard == 0 && attachment.deviceIndex == 0
    let isOurs = found.tags[ENITags.instanceKey] == identity.instance.instanceID
    directory.set(
      ENIDirectory.Entry(
        mac: found.mac, subnet: subnet, attachmentID: attachment.id, isPrimary: isPrimary,
        isUnmarked: !isPrimary && isOurs && !attachment.deleteOnTermination),
      for: found.id)
    return ENIObservation(
      id: found.id, device: attachment.deviceIndex, card: attachment.networkCard, subnet: subnet,
      primaryAddress: found.primaryIPv4, cidrs: found.cidrs,
      isManaged: isPrimary || attachment.networkCard == 0 && isManaged(found),
      isTrunk: found.interfaceType == "trunk", isEFA: found.interfaceType.hasPrefix("efa"))
  }

  /// ENIs of further network cards are left alone: they need ENABLE_MULTI_NIC, which this release lacks.
  private func isManaged(_ found: EC2NetworkInterface) -> Bool {
    if found.tags[ENITags.unmanagedKey] == "true" { return false }
    return managesUntagged || found.tags[ENITags.instanceKey] == identity.instance.instanceID
  }

  /// ENIs of ours that an agent attached and did not mark before it died: they would outlive the instance.
  func markLeftUnmarked() async {
    for (eni, entry) in directory.unmarked {
      guard let attachment = entry.attachmentID else { continue }
      do throws(EC2Error) {
        try await ec2.setDeleteOnTermination(true, interface: eni, attachmentID: attachment)
      } catch {
        logger.warning(
          "an ENI could not be marked to go with the instance", metadata: ["error": "\(CauseChain.text(error))"])
      }
    }
  }
}

extension EC2NetworkInterface {
  /// Secondary addresses and delegated prefixes, IPv4.
  var cidrs: [IPPrefix] { secondaryIPv4.map { IPPrefix(single: $0) } + ipv4Prefixes }
}

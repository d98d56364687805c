// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// Listing attached ENIs.
extension NodeENIs {
  func list() async -> ActionResult {
    do {
      return .listed(mode.asksIMDSOnly ? try await listFromIMDS() : try await listFromEC2())
    } catch let error as EC2Error {
      return failed(error)
    } catch {
      return .failed(ActionFailure(.other(CauseChain.text(error))))
    }
  }

  /// Asks EC2 until it lists the ENIs: 30 s after a start from IMDS only, then with backoff up to ten minutes.
  func listUntilKnown(_ tell: @Sendable (ENIListing) async -> Void) async {
    var wait = Duration.seconds(30)
    while (try? await time.sleep(time.jittered(wait))) != nil {
      if case .listed(let listing) = await list() {
        logger.notice("EC2 lists ENIs again")
        return await tell(listing)
      }
      wait = min(wait * 2, .seconds(600))
    }
  }

  private func listFromEC2() async throws(EC2Error) -> ENIListing {
    let asked = PoolClock.now().instant
    return ENIListing(enis: try await describe(), askedAt: asked, isAuthoritative: true)
  }

  /// IMDS is trusted in IMDS-only mode, but not for recent changes: it lags.
  private func listFromIMDS() async throws -> ENIListing {
    if let changed = directory.changedAt {
      try await time.sleep(max(.zero, ENIDirectory.imdsLag - changed.duration(to: .now)))
    }
    let asked = PoolClock.now().instant + (.zero - ENIDirectory.imdsLag)
    let since = ContinuousClock.now - ENIDirectory.imdsLag
    let enis = try await describe(from: imds)
    directory.prune(to: Set(enis.map(\.id)), askedAt: since)
    return ENIListing(enis: enis, askedAt: asked, isAuthoritative: true)
  }

  /// Lists all ENIs of this instance from EC2 in one call, and updates the directory.
  func describe() async throws(EC2Error) -> [ENIObservation] { try await listing().enis }

  /// - Returns: the attached ENIs, and every ENI that EC2 listed, including detaching ones.
  func listing() async throws(EC2Error) -> (enis: [ENIObservation], seen: Set<ENIID>) {
    let asked = ContinuousClock.now
    let listed = try await ec2.describeNetworkInterfaces(instanceID: identity.instance.instanceID)
      .filter { $0.attachment?.instanceID == identity.instance.instanceID }
    let sound = AnswerAudit.sound(listed, family) { SubnetID($0.subnetID).flatMap { directory.cidr(of: $0) } }
    if !sound.findings.isEmpty {
      logger.warning(
        "EC2 listing contradicts itself; ignoring the addresses in question",
        metadata: ["findings": "\(sound.findings)"])
    }
    let seen = Set(listed.map(\.id))
    directory.prune(to: seen, askedAt: asked)
    return (listed.compactMap { observe($0, sound.cidrs[$0.id] ?? []) }, seen)
  }

  /// The same from IMDS, which lags and has no tags: for a start while EC2 does not answer, and for IMDS-only mode.
  func describe(from imds: IMDSClient) async throws -> [ENIObservation] {
    try await imds.interfaces().compactMap { interface in
      enter(interface)
      return observe(interface)
    }
  }

  /// An ENI as IMDS shows it: only EC2 tells whether it is unmanaged, a trunk or an EFA, so it counts as an ordinary
  /// one.
  func observe(_ interface: IMDSNetworkInterface) -> ENIObservation? {
    guard let subnet = SubnetID(interface.subnetID) else { return nil }
    let cidrs = interface.podCIDRs(family).filter { interface.subnetCIDR(family)?.contains($0) ?? true }
    return ENIObservation(
      id: interface.id, device: interface.deviceNumber, card: interface.networkCard, subnet: subnet,
      primaryAddress: interface.addresses(family).first, cidrs: cidrs,
      isManaged: interface.networkCard == 0 && isOfOurVPC(interface.id, interface.vpcID),
      isExcluded: subnets.isExcluded(subnet))
  }

  /// Adds the subnet's CIDR, which IMDS has and EC2's listing lacks.
  func enter(_ interface: IMDSNetworkInterface) {
    guard let subnet = SubnetID(interface.subnetID) else { return }
    if let cidr = interface.subnetCIDR(family) { directory.setCIDR(cidr, of: subnet) }
    guard directory.entry(for: interface.id) == nil else { return }
    directory.set(
      ENIDirectory.Entry(
        mac: interface.mac, subnet: subnet, device: interface.deviceNumber, card: interface.networkCard,
        isManaged: interface.networkCard == 0 && isOfOurVPC(interface.id, interface.vpcID),
        primaryAddress: interface.addresses(family).first), for: interface.id)
  }

  /// An instance may have ENIs in other VPCs, where neither the cluster nor its pods are: they are unmanaged. Logged
  /// once per ENI. Source: "Attach a network interface", EC2 User Guide (multi-VPC ENI attachments, October 2023).
  private func isOfOurVPC(_ eni: ENIID, _ vpc: String) -> Bool {
    let own = identity.primary.vpcID
    guard vpc != own else { return true }
    if directory.isNews("VPC of \(eni)") {
      logger.warning(
        "ENI is in a different VPC than the node; not using it for pods",
        metadata: ["eni": "\(eni)", "vpc": "\(vpc)", "the node's vpc": "\(own)"])
    }
    return false
  }

  private func observe(_ found: EC2NetworkInterface, _ cidrs: [IPPrefix]) -> ENIObservation? {
    // For the pool, a detaching ENI is gone and an attaching one is present.
    guard let attachment = found.attachment, attachment.status != "detaching", attachment.status != "detached",
      let subnet = SubnetID(found.subnetID)
    else { return nil }
    let isPrimary = attachment.networkCard == 0 && attachment.deviceIndex == 0
    let isOurs = found.tags[ENITags.instanceKey] == identity.instance.instanceID
    let isManaged =
      isPrimary || attachment.networkCard == 0 && isOfOurVPC(found.id, found.vpcID) && isManaged(found)
    if isPrimary { primary.setConnectionTracking(found.connectionTracking) }
    directory.set(
      ENIDirectory.Entry(
        mac: found.mac, subnet: subnet, device: attachment.deviceIndex, card: attachment.networkCard,
        isManaged: isManaged, attachmentID: attachment.id, primaryAddress: found.ownAddress(family),
        groups: found.description == tags.description ? Set(found.securityGroupIDs) : nil,
        isUnmarked: mode.provisions && !isPrimary && isOurs && !attachment.deleteOnTermination
          && !directory.isInTransit(found.id),
        missingTags: mode.provisions && isManaged ? tags.missing(from: found.tags) : [:]),
      for: found.id)
    return ENIObservation(
      id: found.id, device: attachment.deviceIndex, card: attachment.networkCard, subnet: subnet,
      primaryAddress: found.ownAddress(family), cidrs: cidrs, isManaged: isManaged,
      isExcluded: subnets.isExcluded(subnet),
      isTrunk: found.interfaceType == "trunk", isEFA: found.interfaceType.hasPrefix("efa"))
  }

  /// ENIs on other network cards are unmanaged: they need ENABLE_MULTI_NIC, which this release does not implement.
  private func isManaged(_ found: EC2NetworkInterface) -> Bool {
    if found.tags[ENITags.unmanagedKey] == "true" { return false }
    if found.tags[ENITags.instanceKey] == identity.instance.instanceID { return true }
    // Without an address of the pods' family it was attached for something else.
    return mode.managesUntagged && found.ownAddress(family) != nil
  }
}

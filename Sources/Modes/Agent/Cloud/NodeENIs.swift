// SPDX-License-Identifier: Apache-2.0
//
// Carries out the pool's actions in EC2, and tells the node's kernel what it should hold.
//
//   attach:  create ─▶ attach ─▶ delete-on-termination ─▶ attached        (three mutating calls, no describe)
//               │         │               │
//               ▼         ▼               ▼
//            nothing    delete     detach, delete                         every failure leaves nothing behind
//
//            under throttling, attach and delete-on-termination are retried for a while first
//
//   free:    detach ─▶ delete                     a failed detach is reported: the pool sets the ENI up again

internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCTransport

/// The node's ENIs: EC2's side and the kernel's, together.
struct NodeENIs: ENIOperations {
  /// What the settings say of it.
  struct Mode: Sendable {
    /// MANAGE_UNTAGGED_ENI.
    var managesUntagged = true
    /// False with DISABLE_NETWORK_RESOURCE_PROVISIONING: then nothing is tagged either.
    var provisions = true
    /// ENABLE_IMDS_ONLY_MODE: DescribeNetworkInterfaces is never called.
    var asksIMDSOnly = false
  }

  let ec2: EC2Client
  let imds: IMDSClient
  let network: NodeNetwork
  let directory: ENIDirectory
  let subnets: SubnetDirectory
  let primary: PrimaryState
  let identity: NodeIdentity
  let tags: ENITags
  let mode: Mode
  let time: TimeSource
  let logger: Logger
  /// With custom networking: the source of the security groups for new ENIs.
  var customNetwork: CustomNetwork?

  /// The family of pods' addresses.
  var family: AddressFamily { identity.family }

  // MARK: attach

  /// Retries of a call for which EC2 does not know the new ENI yet: half a minute at most.
  private static let looksForTheNew = 6

  func attach(
    _ request: AttachRequest, held: @escaping @Sendable (String) -> Void = { _ in }
  ) async -> ActionResult {
    guard !subnets.isExcluded(request.subnet) else {
      return .failed(
        ActionFailure(.other("subnet \(request.subnet) is excluded by its tags, and there is no other")))
    }
    subnets.hint(.growing)
    directory.noteChange()
    let groups = customNetwork?.groups(primary: primary.securityGroups) ?? primary.securityGroups
    let created: EC2NetworkInterface
    do throws(EC2Error) {
      created = try await ec2.createNetworkInterface(newInterface(request, groups))
    } catch {
      return failed(error)
    }
    directory.setComing(created.id, true)
    defer { directory.setComing(created.id, false) }
    var entry = ENIDirectory.Entry(
      mac: created.mac, subnet: request.subnet, device: request.device, card: request.card, isManaged: true,
      primaryAddress: created.ownAddress(family), groups: Set(groups))
    do throws(EC2Error) {
      let attachment = try await plugIn(created.id, request, held)
      entry.attachmentID = attachment
      entry.isUnmarked = try await !mark(created.id, attachment, held)
    } catch {
      switch error.action {
      case "AttachNetworkInterface": await discard(created.id, attachmentID: nil)
      // Setting DeleteOnTermination discards the ENI itself on failure. For any other error it is unclear whether the
      // ENI is attached.
      case "ModifyNetworkInterfaceAttribute": break
      default: return await unclear(created.id, error)
      }
      return failed(error)
    }
    let credible = Set(credible(created, request, entry))
    directory.set(entry, for: created.id)
    return .attached(
      ENIObservation(
        id: created.id, device: request.device, card: request.card, subnet: request.subnet,
        primaryAddress: created.ownAddress(family), cidrs: created.podCIDRs(family).filter(credible.contains)))
  }

  private func newInterface(_ request: AttachRequest, _ groups: [String]) -> EC2Client.NewInterface {
    var new = EC2Client.NewInterface(
      subnetID: request.subnet.text, securityGroupIDs: groups, description: tags.description,
      tags: tags.forNewENI(created: ec2.serviceTime.description), connectionTracking: primary.connectionTracking)
    switch family {
    case .ipv4: new.demand = EC2AddressDemand(request.kind, request.count)
    // EC2 assigns the prefix in a call of its own.
    case .ipv6: new.ipv6AddressCount = 1
    }
    return new
  }

  /// The consistent addresses of a new ENI. If the answer is inconsistent, EC2 is asked again once IMDS shows the ENI.
  private func credible(
    _ created: EC2NetworkInterface, _ request: AttachRequest, _ entry: ENIDirectory.Entry
  ) -> [IPPrefix] {
    var entries = directory.entries
    entries[created.id] = entry
    let cidrs = created.podCIDRs(family)
    guard
      let fault = AnswerAudit.fault(
        assigned: cidrs, request.kind, asked: request.count, to: created.id,
        subnet: directory.cidr(of: request.subnet), entries: entries)
    else { return cidrs }
    logger.warning(
      "EC2 response is inconsistent; not using the new ENI's addresses yet",
      metadata: ["eni": "\(created.id)", "fault": "\(fault)"])
    return []
  }

  /// Attaches the ENI; if the answer is lost, asks EC2 whether it is attached.
  private func plugIn(
    _ eni: ENIID, _ request: AttachRequest, _ held: (String) -> Void
  ) async throws(EC2Error) -> String {
    do throws(EC2Error) {
      return try await attachOnce(eni, request, held)
    } catch {
      guard error.mayBeDone else { throw error }
      if let attachment = try await attachment(of: eni) { return attachment }
      return try await attachOnce(eni, request, held)
    }
  }

  private func attachOnce(
    _ eni: ENIID, _ request: AttachRequest, _ held: (String) -> Void
  ) async throws(EC2Error) -> String {
    try await patiently(held) { () async throws(EC2Error) in
      try await ec2.attachNetworkInterface(
        eni, instanceID: identity.instance.instanceID, deviceIndex: request.device, networkCard: request.card)
    }
  }

  /// Sets DeleteOnTermination on an attached ENI.
  ///
  /// - Returns: false if it must be retried later: EC2 throttles, and the ENI is already usable.
  /// - Throws: if it can never be set, after detaching the ENI.
  private func mark(
    _ eni: ENIID, _ attachment: String, _ held: (String) -> Void
  ) async throws(EC2Error) -> Bool {
    do throws(EC2Error) {
      try await patiently(held) { () async throws(EC2Error) in
        try await ec2.setDeleteOnTermination(true, interface: eni, attachmentID: attachment)
      }
      return true
    } catch {
      if error.isTransient { return false }
      await discard(eni, attachmentID: attachment)
      throw error
    }
  }

  /// Under throttling, a partly created ENI is completed instead of discarded: creating it again takes more calls. The
  /// waits are random, so that nodes which grow together do not retry together.
  ///
  /// EC2 is eventually consistent: the next call may not know a resource that was just created. Source: "Eventual
  /// consistency in the Amazon EC2 API", Amazon EC2 Developer Guide.
  private func patiently<Value>(
    _ held: (String) -> Void, _ call: () async throws(EC2Error) -> Value
  ) async throws(EC2Error) -> Value {
    let policy = RetryPolicy(attempts: 12, base: .seconds(1), cap: .seconds(8))
    var unknown = 0
    return try await policy.run(
      time: time, deadline: time.now().advanced(by: .seconds(90)),
      retryable: { (error: EC2Error) in
        if error.isThrottling { held(error.action) }
        if error.isNotFound { unknown += 1 }
        return error.isThrottling || (error.isNotFound && unknown < NodeENIs.looksForTheNew)
      }
    ) { (_) async throws(EC2Error) in
      try await call()
    }
  }

  /// It is unclear whether the ENI is attached: it is deleted, which EC2 refuses for an attached ENI. Then the pool's
  /// listing finds it.
  private func unclear(_ eni: ENIID, _ error: EC2Error) async -> ActionResult {
    do throws(EC2Error) {
      _ = try await ec2.deleteNetworkInterface(eni)
      return failed(error)
    } catch {
      logger.warning(
        "cannot tell whether a new ENI is attached; waiting for the next EC2 listing",
        metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
    }
    return .failed(NodeENIs.failure(of: error, mayBeDone: true))
  }

  /// The attachment to this instance; nil if there is none.
  private func attachment(of eni: ENIID) async throws(EC2Error) -> String? {
    let instance = identity.instance.instanceID
    if mode.asksIMDSOnly {
      return try await ec2.describeInstance(instance)?.attachments.first { $0.interfaceID == eni }?.attachmentID
    }
    let attachment = try await ec2.describeNetworkInterfaces([eni]).first { $0.id == eni }?.attachment
    return attachment?.instanceID == instance ? attachment?.id : nil
  }

  // MARK: addresses

  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult {
    subnets.hint(.growing)
    directory.noteChange()
    do throws(EC2Error) {
      let assigned = try await ec2.assignAddresses(EC2AddressDemand(kind, count), family, to: eni)
      let entries = directory.entries
      if let fault = AnswerAudit.fault(
        assigned: assigned, kind, asked: count, to: eni,
        subnet: entries[eni].flatMap { directory.cidr(of: $0.subnet) }, entries: entries)
      {
        // The pool requests a listing before it assigns any address of this ENI.
        return .failed(ActionFailure(.other("EC2 response is inconsistent: \(fault)"), mayBeDone: true))
      }
      return .assigned(assigned)
    } catch {
      return failed(error)
    }
  }

  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult {
    directory.noteChange()
    do throws(EC2Error) {
      try await ec2.unassignAddresses(cidrs, from: eni)
    } catch {
      return failed(error)
    }
    return .done
  }

  // MARK: kernel

  func converge(to wanted: WantedENIs, _ scope: NodeNetwork.Scope) async throws {
    if case .eni(let id) = scope, let eni = wanted[id] { try await learn(about: eni) }
    try await network.converge(to: nodeWanted(wanted), scope)
  }

  /// What the node's kernel should hold, with the facts that are known about each ENI.
  func nodeWanted(_ wanted: WantedENIs) -> NodeWanted {
    let entries = directory.entries
    var node = NodeWanted(generation: wanted.generation, settings: network.settings)
    for eni in wanted.enis {
      let entry = entries[eni.id]
      node.enis[eni.id] = NodeWanted.ENI(
        eni, address: eni.primaryAddress ?? entry?.primaryAddress, mac: entry?.mac,
        subnet: directory.cidr(of: eni.subnet))
    }
    return node
  }

  /// Completes the facts that an ENI's setup needs.
  private func learn(about eni: ENIObservation) async throws {
    guard let entry = directory.entry(for: eni.id) else { throw NodeNetworkError.unknown(eni.id) }
    if eni.primaryAddress == nil, entry.primaryAddress == nil {
      // The ENI was listed before its addresses: they may be there by now.
      let own = try await imds.addresses(family, of: entry.mac)?.own
      directory.update(eni.id) { $0.primaryAddress = own }
    }
    guard directory.cidr(of: eni.subnet) == nil else { return }
    // From IMDS, which needs no EC2 call.
    var found = try await imds.interface(entry.mac)?.subnetCIDR(family)
    if found == nil { found = try await ec2.describeSubnet(eni.subnet.text)?.cidr(family) }
    guard let found else { throw NodeNetworkError.noSubnet(eni.id, eni.subnet.text) }
    directory.setCIDR(found, of: eni.subnet)
  }

  // MARK: free

  func free(_ eni: ENIID) async -> ActionResult {
    directory.noteChange()
    do throws(EC2Error) {
      var attachment = directory.entry(for: eni)?.attachmentID
      if attachment == nil { attachment = try await self.attachment(of: eni) }
      if let attachment { _ = try await ec2.detachNetworkInterface(attachmentID: attachment) }
    } catch {
      guard error.isNotFound else { return failed(error) }
      // Somebody else detached it first. Another ENI may have its addresses by now.
      directory.remove(eni)
      return .done
    }
    directory.remove(eni)
    await delete(eni)
    return .done
  }

  /// Discards an ENI whose attachment did not complete.
  private func discard(_ eni: ENIID, attachmentID: String?) async {
    if let attachmentID {
      do throws(EC2Error) {
        _ = try await ec2.detachNetworkInterface(attachmentID: attachmentID)
      } catch {
        return logger.error(
          "cannot detach a failed ENI; it will be adopted later",
          metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
      }
    }
    await delete(eni)
  }

  /// Deletes an ENI that is being detached: EC2 refuses until the detachment is complete.
  private func delete(_ eni: ENIID) async {
    let policy = RetryPolicy(attempts: 12, base: .milliseconds(200), cap: .seconds(20))
    do throws(EC2Error) {
      _ = try await policy.run(
        time: time, deadline: time.now().advanced(by: .seconds(180)),
        retryable: { $0.isTransient || $0.code == .interfaceInUse || $0.isStillAttached }
      ) { (_) async throws(EC2Error) in
        try await ec2.deleteNetworkInterface(eni)
      }
    } catch {
      logger.error(
        "cannot delete an ENI; the leaked-ENI sweep will delete it",
        metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
    }
  }
}

extension EC2AddressDemand {
  fileprivate init(_ kind: CIDRKind, _ count: Int) { self = kind == .prefix ? .prefixes(count) : .addresses(count) }
}

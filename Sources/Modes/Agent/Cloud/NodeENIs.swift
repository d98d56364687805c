// SPDX-License-Identifier: Apache-2.0
//
// What the pool asks for, done at EC2 and in the node's kernel.
//
//   attach:  create ─▶ attach ─▶ delete-on-termination ─▶ attached        (three mutating calls, no describe)
//               │         │               │
//               ▼         ▼               ▼
//            nothing    delete     detach, delete                         every failure leaves nothing behind
//
//   free:    rules and map gone ─▶ detach ─▶ delete                       a failed detach is reported: the pool wires anew

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// The node's ENIs: EC2's side and the kernel's, together.
struct NodeENIs: ENIOperations {
  let ec2: EC2Client
  let imds: IMDSClient
  let network: NodeNetwork
  let directory: ENIDirectory
  let identity: NodeIdentity
  let tags: ENITags
  let managesUntagged: Bool
  let logger: Logger

  // MARK: attach

  func attach(_ request: AttachRequest) async -> ActionResult {
    let created: EC2NetworkInterface
    do throws(EC2Error) {
      created = try await ec2.createNetworkInterface(newInterface(request))
    } catch {
      return failed(error)
    }
    do throws(EC2Error) {
      let attachment = try await plugIn(created.id, request)
      do throws(EC2Error) {
        try await ec2.setDeleteOnTermination(true, interface: created.id, attachmentID: attachment)
      } catch {
        await discard(created.id, attachmentID: attachment)
        throw error
      }
      directory.set(
        ENIDirectory.Entry(
          mac: created.mac, subnet: request.subnet, attachmentID: attachment, isPrimary: false), for: created.id)
    } catch {
      if error.action == "AttachNetworkInterface" { await discard(created.id, attachmentID: nil) }
      return failed(error)
    }
    var observation = ENIObservation(
      id: created.id, device: request.device, card: request.card, subnet: request.subnet,
      primaryAddress: created.primaryIPv4, cidrs: created.cidrs)
    observation.isWired = false
    return .attached(observation)
  }

  private func newInterface(_ request: AttachRequest) -> EC2Client.NewInterface {
    let demand: EC2AddressDemand = request.kind == .prefix ? .prefixes(request.count) : .addresses(request.count)
    return EC2Client.NewInterface(
      subnetID: request.subnet.text, securityGroupIDs: identity.primary.securityGroupIDs, demand: demand,
      description: tags.description, tags: tags.forNewENI(created: UTCTime.now.description))
  }

  /// Attaches, and where the answer was lost asks EC2 whether it was done.
  private func plugIn(_ eni: ENIID, _ request: AttachRequest) async throws(EC2Error) -> String {
    do throws(EC2Error) {
      return try await ec2.attachNetworkInterface(
        eni, instanceID: identity.instance.instanceID, deviceIndex: request.device, networkCard: request.card)
    } catch {
      guard error.mayBeDone else { throw error }
      if let attachment = try await attachment(of: eni) { return attachment }
      return try await ec2.attachNetworkInterface(
        eni, instanceID: identity.instance.instanceID, deviceIndex: request.device, networkCard: request.card)
    }
  }

  /// The attachment to this instance, nil where there is none.
  private func attachment(of eni: ENIID) async throws(EC2Error) -> String? {
    let attachment = try await ec2.describeNetworkInterfaces([eni]).first?.attachment
    return attachment?.instanceID == identity.instance.instanceID ? attachment?.id : nil
  }

  // MARK: addresses

  func assign(_ count: Int, _ kind: CIDRKind, to eni: ENIID) async -> ActionResult {
    do throws(EC2Error) {
      let demand: EC2AddressDemand = kind == .prefix ? .prefixes(count) : .addresses(count)
      let assigned = try await ec2.assignPrivateAddresses(demand, to: eni)
      do {
        try await network.addSources(assigned, of: eni)
      } catch {
        return .failed(ActionFailure(.other(CauseChain.text(error)), mayBeDone: true))
      }
      return .assigned(assigned)
    } catch {
      return failed(error)
    }
  }

  func unassign(_ cidrs: [IPPrefix], from eni: ENIID) async -> ActionResult {
    do throws(EC2Error) {
      try await ec2.unassignPrivateAddresses(cidrs, from: eni)
    } catch {
      return failed(error)
    }
    do {
      try await network.removeSources(cidrs, of: eni)
    } catch {
      // An element too many leads packets of an address that nobody has.
      logger.warning(
        "source map keeps an address that was given back", metadata: ["error": "\(CauseChain.text(error))"])
    }
    return .done
  }

  // MARK: kernel

  func wire(_ eni: ENIObservation) async -> ActionResult {
    do {
      guard let entry = directory.entry(for: eni.id) else {
        return .failed(ActionFailure(.other("\(eni.id) is not known to the agent")))
      }
      try await network.wire(eni, mac: entry.mac, subnet: try await cidr(of: eni, mac: entry.mac))
      return .done
    } catch {
      return .failed(ActionFailure(.other(CauseChain.text(error))))
    }
  }

  /// The subnet's CIDR: known already, else from IMDS, which costs no EC2 call, else from EC2.
  private func cidr(of eni: ENIObservation, mac: MACAddress) async throws -> IPPrefix {
    if let known = directory.cidr(of: eni.subnet) { return known }
    var found = try await imds.interface(mac)?.subnetIPv4CIDR
    if found == nil { found = try await ec2.describeSubnet(eni.subnet.text)?.ipv4CIDR }
    guard let found else {
      throw NodeNetworkError.noSubnet(eni.id, eni.subnet.text)
    }
    directory.setCIDR(found, of: eni.subnet)
    return found
  }

  // MARK: free

  func free(_ eni: ENIID) async -> ActionResult {
    do {
      try await network.unwire(eni)
    } catch {
      return .failed(ActionFailure(.other(CauseChain.text(error))))
    }
    do throws(EC2Error) {
      var attachment = directory.entry(for: eni)?.attachmentID
      if attachment == nil { attachment = try await self.attachment(of: eni) }
      if let attachment { _ = try await ec2.detachNetworkInterface(attachmentID: attachment) }
    } catch {
      return error.isNotFound ? .done : failed(error)
    }
    directory.remove(eni)
    await delete(eni)
    return .done
  }

  /// Takes back an ENI whose attachment did not come to its end.
  private func discard(_ eni: ENIID, attachmentID: String?) async {
    if let attachmentID {
      do throws(EC2Error) {
        _ = try await ec2.detachNetworkInterface(attachmentID: attachmentID)
      } catch {
        return logger.error(
          "an ENI could not be detached again, it is adopted later",
          metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
      }
    }
    await delete(eni)
  }

  /// Deletes an ENI that is being detached: EC2 refuses until the detachment is through.
  private func delete(_ eni: ENIID) async {
    let policy = RetryPolicy(attempts: 12, base: .milliseconds(200), cap: .seconds(20))
    do throws(EC2Error) {
      _ = try await policy.run(
        time: .system, deadline: ContinuousClock.now.advanced(by: .seconds(180)),
        retryable: { $0.isTransient || $0.code == .interfaceInUse || $0.isStillAttached }
      ) { (_) async throws(EC2Error) in
        try await ec2.deleteNetworkInterface(eni)
      }
    } catch {
      logger.error(
        "an ENI could not be deleted, it is left to the sweep of leaked ENIs",
        metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))"])
    }
  }
}

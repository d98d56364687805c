// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// The attached ENIs at startup, from all available sources.
///
///   EC2 answers             its listing, plus ENIs that only IMDS shows: the listing can be stale,
///                           and an instance always has its primary ENI
///   EC2 does not answer     IMDS, checked against local evidence (`NodeEvidence`)
///   neither answers         both are retried until one answers
extension NodeENIs {
  /// - Returns: `isByEC2` is false if EC2 must still be asked.
  func describeAtStart(
    _ evidence: NodeEvidence
  ) async throws -> (enis: [ENIObservation], isByEC2: Bool) {
    enter(identity.primary)
    var wait = Duration.milliseconds(250)
    while true {
      do {
        if mode.asksIMDSOnly { return (try await describe(from: imds), true) }
        do throws(EC2Error) {
          return try await merged(evidence)
        } catch {
          logger.warning("cannot list ENIs from EC2; using IMDS", metadata: ["error": "\(CauseChain.text(error))"])
        }
        return (try await describe(from: imds, evidence), false)
      } catch {
        try Task.checkCancellation()
        logger.warning(
          "cannot list ENIs from IMDS either; will retry",
          metadata: ["error": "\(CauseChain.text(error))", "in": "\(wait.brief)"])
        try await time.sleep(wait)
        wait = min(wait * 2, .seconds(5))
      }
    }
  }

  private func merged(
    _ evidence: NodeEvidence
  ) async throws(EC2Error) -> (enis: [ENIObservation], isByEC2: Bool) {
    async let shown = try? imds.interfaceMACs()
    let listed = try await listing()
    var enis = listed.enis
    var missing: [ENIID] = []
    // A listing removes entries that it lacks.
    enter(identity.primary)
    if !enis.contains(where: \.isPrimary), let primary = observe(identity.primary) {
      enis.append(primary)
      missing.append(primary.id)
    }
    let keepsPrefix = keepPrefixOfPrimary(&enis, evidence)
    let known = Set(directory.entries.filter { listed.seen.contains($0.key) }.map(\.value.mac))
    for mac in await shown ?? [] where !known.contains(mac) && mac != identity.primary.mac {
      // If IMDS fails now, the look once a minute will find it.
      guard let interface = try? await imds.interface(mac), !listed.seen.contains(interface.id) else { continue }
      enter(interface)
      guard let eni = observe(interface) else { continue }
      enis.append(evidence.judge(eni, mac: mac))
      missing.append(eni.id)
    }
    if !missing.isEmpty {
      logger.warning(
        "EC2 listing lacks ENIs that IMDS shows; keeping them and asking EC2 again",
        metadata: ["enis": "\(missing)"])
      leaveOutRivals(&enis)
    }
    return (enis, !keepsPrefix)
  }

  /// All pods of an IPv6 node depend on one prefix: a stale listing without it must not cost a second one. Of IMDS alone, a
  /// prefix without a pod counts for nothing.
  ///
  /// - Returns: whether one was kept, about which EC2 must be asked again.
  private func keepPrefixOfPrimary(_ enis: inout [ENIObservation], _ evidence: NodeEvidence) -> Bool {
    guard family == .ipv6, let index = enis.firstIndex(where: \.isPrimary), enis[index].cidrs.isEmpty else {
      return false
    }
    let kept = identity.primary.podCIDRs(family).filter { evidence.inUse.contains(where: $0.contains) }
    guard !kept.isEmpty else { return false }
    enis[index].cidrs = kept
    logger.warning(
      "EC2 listing lacks the IPv6 prefix of running pods, which IMDS shows; keeping it and asking EC2 again",
      metadata: ["prefixes": "\(kept)"])
    return true
  }

  /// Two sources with different ages may show one address on two ENIs. Neither is used; pods with the address keep the
  /// kernel's ENI, and the next listing decides.
  private func leaveOutRivals(_ enis: inout [ENIObservation]) {
    let rivals = AnswerAudit.rivals(in: enis.map { ($0.id, $0.cidrs) })
    guard !rivals.doubtful.isEmpty else { return }
    logger.warning(
      "EC2 and IMDS show an address on different ENIs; not using it", metadata: ["findings": "\(rivals.findings)"])
    for index in enis.indices { enis[index].cidrs.removeAll(where: rivals.doubtful.contains) }
  }

  private func describe(from imds: IMDSClient, _ evidence: NodeEvidence) async throws -> [ENIObservation] {
    var enis = try await imds.interfaces().compactMap { interface in
      enter(interface)
      return observe(interface).map { evidence.judge($0, mac: interface.mac) }
    }
    leaveOutRivals(&enis)
    return enis
  }
}

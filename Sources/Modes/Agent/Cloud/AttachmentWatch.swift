// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// Lists the attached ENIs from IMDS once a minute and tells the pool: if the listing differs from the pool's book, the
/// pool asks EC2. One request for the list and two for each managed ENI; none to EC2.
struct AttachmentWatch: Sendable {
  let imds: IMDSClient
  /// Of pods' addresses.
  let family: AddressFamily
  let directory: ENIDirectory
  /// As `NodeENIs.describe(from:)` judges an ENI that only IMDS knows.
  let observe: @Sendable (IMDSNetworkInterface) -> ENIObservation?
  let tell: @Sendable (ENIListing) async -> Void
  let time: TimeSource
  let logger: Logger

  static let interval = Duration.seconds(60)

  /// Looks until cancelled.
  func run() async {
    var streak = FailureStreak()
    while (try? await time.sleep(time.jittered(AttachmentWatch.interval))) != nil {
      do throws(IMDSError) {
        if let listing = try await look() { await tell(listing) }
        if streak.succeeded() { logger.notice("IMDS lists ENIs again") }
      } catch {
        guard streak.failed(), !Task.isCancelled else { continue }
        logger.warning(
          "cannot list ENIs from IMDS; keeping the last EC2 listing",
          metadata: ["error": "\(CauseChain.text(error))"])
      }
    }
  }

  /// - Returns: nil if the answers contradict each other: an instance always has its primary ENI.
  func look() async throws(IMDSError) -> ENIListing? {
    let asked = PoolClock.now().instant
    let known = Dictionary(directory.entries.map { ($0.value.mac, ($0.key, $0.value)) }) { first, _ in first }
    var seen: [ENIObservation] = []
    for mac in try await imds.interfaceMACs() {
      if let (id, entry) = known[mac] {
        if let observation = try await observation(of: id, entry) { seen.append(observation) }
      } else if let interface = try await imds.interface(mac), !directory.isInTransit(interface.id),
        let observation = observe(interface)
      {
        seen.append(observation)
      }
    }
    guard seen.contains(where: \.isPrimary) else { return nil }
    return ENIListing(enis: seen, askedAt: asked, isAuthoritative: false)
  }

  private func observation(
    of id: ENIID, _ entry: ENIDirectory.Entry
  ) async throws(IMDSError) -> ENIObservation? {
    var observation = ENIObservation(
      id: id, device: entry.device, card: entry.card, subnet: entry.subnet, primaryAddress: entry.primaryAddress,
      isManaged: entry.isManaged)
    guard entry.isManaged else { return observation }
    guard let shown = try await imds.addresses(family, of: entry.mac) else { return nil }
    observation.primaryAddress = shown.own
    observation.cidrs = shown.pods
    return observation
  }
}

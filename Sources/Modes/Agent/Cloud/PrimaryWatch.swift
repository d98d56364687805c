// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// Changeable attributes of the primary ENI, as IMDS last showed them.
final class PrimaryState: Sendable {
  private let groups: Mutex<[String]>
  private let cidrs: Mutex<[IPPrefix]>
  private let tracking = Mutex<EC2ConnectionTracking?>(nil)

  /// - Parameter family: of pods' addresses.
  init(_ primary: IMDSNetworkInterface, _ family: AddressFamily) {
    groups = Mutex(primary.securityGroupIDs)
    cidrs = Mutex(primary.vpcCIDRs(family))
  }

  /// The security groups of every new ENI.
  var securityGroups: [String] { groups.withLock { $0 } }
  /// The VPC's CIDRs of the pods' family, as used in the node's rules.
  var vpcCIDRs: [IPPrefix] { cidrs.withLock { $0 } }

  /// Connection-tracking timeouts of the primary ENI, which new ENIs get too; nil for EC2's defaults or if EC2 has not
  /// answered.
  var connectionTracking: EC2ConnectionTracking? { tracking.withLock { $0 } }

  func setConnectionTracking(_ new: EC2ConnectionTracking?) { tracking.withLock { $0 = new } }
  func setSecurityGroups(_ new: [String]) { groups.withLock { $0 = new } }
  func setVPCCIDRs(_ new: [IPPrefix]) { cidrs.withLock { $0 = new } }
}

/// Reads the primary ENI from IMDS every half minute: its security groups, which all managed ENIs follow (with custom
/// networking they follow the ENIConfig's), and the VPC's CIDRs, which the node's rules follow. Two requests to IMDS,
/// none to EC2 unless something changed.
struct PrimaryWatch: Sendable {
  let imds: IMDSClient
  let ec2: EC2Client
  let primary: MACAddress
  /// Of pods' addresses.
  let family: AddressFamily
  let state: PrimaryState
  let directory: ENIDirectory
  /// False if EC2 must not be called.
  let followsGroups: Bool
  /// The groups for the other ENIs, given the primary's: with custom networking those of the ENIConfig, if it names
  /// any. Nil if unknown, so that they stay unchanged.
  var groupsOfOthers: @Sendable ([String]) -> [String]? = { $0 }
  /// Updates the node's rules; the CIDRs count as seen only after success.
  let applyCIDRs: @Sendable ([IPPrefix]) async throws -> Void
  let time: TimeSource
  let logger: Logger

  static let interval = Duration.seconds(30)
  /// A change reaches every node within the same half minute; their calls are spread over this time.
  static let spread = Duration.seconds(20)
  /// After failed calls: 30 s, doubled by each consecutive failure up to this.
  static let longestWait = Duration.seconds(600)

  /// Looks until cancelled.
  func run() async {
    var round = Round()
    while (try? await time.sleep(time.jittered(PrimaryWatch.interval))) != nil {
      await look(&round)
    }
  }

  /// State from one round to the next.
  struct Round: Sendable {
    var streak = FailureStreak()
    var failures = 0
    var dueAt: ContinuousClock.Instant?
  }

  func look(_ round: inout Round) async {
    do throws(IMDSError) {
      let cidrs = try await imds.vpcCIDRs(family, of: primary)
      let groups = followsGroups ? try await imds.securityGroupIDs(of: primary) : []
      if round.streak.succeeded() { logger.notice("IMDS shows the primary ENI again") }
      await follow(cidrs)
      // Every ENI has a group: an empty answer is an error of IMDS.
      if followsGroups, !groups.isEmpty { await follow(groups, &round) }
    } catch {
      guard round.streak.failed(), !Task.isCancelled else { return }
      logger.warning(
        "cannot read the primary ENI from IMDS; keeping its security groups and the VPC CIDRs",
        metadata: ["error": "\(CauseChain.text(error))"])
    }
  }

  private func follow(_ cidrs: [IPPrefix]) async {
    guard !cidrs.isEmpty, Set(cidrs) != Set(state.vpcCIDRs) else { return }
    do {
      try await applyCIDRs(cidrs)
      state.setVPCCIDRs(cidrs)
      logger.notice("VPC CIDRs changed", metadata: ["cidrs": "\(cidrs)"])
    } catch {
      logger.warning(
        "cannot apply the changed VPC CIDRs to the node's rules; will retry",
        metadata: ["cidrs": "\(cidrs)", "error": "\(CauseChain.text(error))"])
    }
  }

  // MARK: security groups

  private func follow(_ groups: [String], _ round: inout Round) async {
    let old = state.securityGroups
    if Set(groups) != Set(old) {
      logger.notice("security groups of the primary ENI changed", metadata: ["from": "\(old)", "to": "\(groups)"])
      state.setSecurityGroups(groups)
      // Groups that others set on their ENIs stay until now.
      for eni in directory.entries.keys { directory.update(eni) { $0.groups = $0.groups ?? Set(old) } }
      round.failures = 0
      round.dueAt = time.now().advanced(by: PrimaryWatch.spread * time.random())
    }
    guard let groups = groupsOfOthers(groups) else { return }
    let outdated = PrimaryWatch.outdated(directory.entries, groups: Set(groups))
    guard !outdated.isEmpty else { return round.dueAt = nil }
    // Found at startup: an agent exited between a change and its calls.
    let due = round.dueAt ?? time.now().advanced(by: PrimaryWatch.spread * time.random())
    round.dueAt = due
    guard time.now().duration(to: due) < PrimaryWatch.interval else { return }
    guard (try? await time.sleep(max(.zero, time.now().duration(to: due)))) != nil else { return }
    for eni in outdated {
      guard await set(groups, of: eni, &round) else { return }
    }
    round.failures = 0
    round.dueAt = nil
  }

  /// Managed secondary ENIs whose groups are known to differ, in a fixed order.
  static func outdated(_ entries: [ENIID: ENIDirectory.Entry], groups: Set<String>) -> [ENIID] {
    entries.filter { !$0.value.isPrimary && $0.value.isManaged && $0.value.groups.map { $0 != groups } ?? false }
      .keys.sorted { $0.text < $1.text }
  }

  /// - Returns: false if the rest must wait.
  private func set(_ groups: [String], of eni: ENIID, _ round: inout Round) async -> Bool {
    do throws(EC2Error) {
      try await ec2.setSecurityGroups(groups, interface: eni)
      directory.update(eni) { $0.groups = Set(groups) }
      return true
    } catch {
      if error.code == .interfaceNotFound {
        directory.update(eni) { $0.groups = nil }
        return true
      }
      let wait = time.jittered(min(PrimaryWatch.interval * (1 << min(round.failures, 5)), PrimaryWatch.longestWait))
      round.failures += 1
      round.dueAt = time.now().advanced(by: wait)
      if !Task.isCancelled {
        logger.warning(
          "cannot set the security groups of an ENI; will retry",
          metadata: ["eni": "\(eni)", "error": "\(CauseChain.text(error))", "in": "\(wait.brief)"])
      }
      return false
    }
  }
}

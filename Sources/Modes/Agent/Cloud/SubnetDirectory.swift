// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// The subnets for new ENIs, kept in memory so that no attachment waits for a describe call.
///
/// Listed once at startup, in parallel with the other steps; a node without pods waits for it a little (`awaitFirst`).
/// Listed again during growth if the list is minutes old, or when a subnet is full. If EC2 does not answer, the list stays
/// unchanged, initially the primary subnet only.
final class SubnetDirectory: Sendable {
  private struct Content {
    var choice: SubnetChoice
    var rhythm = SubnetRhythm()
    var hint: SubnetRhythm.Hint?
    var streak = FailureStreak()
  }

  private let ec2: EC2Client
  private let filters: [EC2Filter]
  private let primary: SubnetID
  /// Of pods' addresses.
  private let family: AddressFamily
  private let clusterName: String
  /// ENABLE_SUBNET_DISCOVERY, if this node calls EC2 at all.
  private let isEnabled: Bool
  private let enis: ENIDirectory
  private let time: TimeSource
  private let logger: Logger
  private let content: Mutex<Content>
  private let bell = Bell()
  private let firstEnd = Bell()

  init(
    ec2: EC2Client, identity: NodeIdentity, clusterName: String, isEnabled: Bool, enis: ENIDirectory,
    time: TimeSource = .system, logger: Logger
  ) {
    self.ec2 = ec2
    filters = [
      EC2Filter("vpc-id", [identity.primary.vpcID]),
      EC2Filter("availability-zone", [identity.instance.availabilityZone]),
    ]
    primary = identity.primarySubnet
    family = identity.family
    self.clusterName = clusterName
    self.isEnabled = isEnabled
    self.enis = enis
    self.time = time
    self.logger = logger
    content = Mutex(Content(choice: SubnetChoice(primary: identity.primarySubnet)))
  }

  var choice: SubnetChoice { content.withLock { $0.choice } }

  /// Free addresses by subnet from the last listing; empty if there was none.
  var uses: [SubnetUse] { choice.uses }

  /// Time since the last listing; nil if there was none.
  var age: Duration? { content.withLock { $0.rhythm.readAt.map { $0.duration(to: time.now()) } } }

  func isExcluded(_ subnet: SubnetID) -> Bool { content.withLock { $0.choice.excluded.contains(subnet) } }

  /// Requests a fresher listing. Returns at once.
  func hint(_ hint: SubnetRhythm.Hint) {
    guard isEnabled else { return }
    content.withLock { if $0.hint != .full { $0.hint = hint } }
    bell.ring()
  }

  /// Lists the subnets with one EC2 call. Logs the first of consecutive failures and the recovery.
  func read() async {
    guard isEnabled else { return }
    content.withLock { $0.rhythm.began() }
    defer { firstEnd.ring() }
    do throws(EC2Error) {
      let subnets = try await ec2.describeSubnets(filters: filters)
      for subnet in subnets {
        if let id = SubnetID(subnet.id), let cidr = subnet.cidr(family) { enis.setCIDR(cidr, of: id) }
      }
      let choice = SubnetChoice(
        subnets.filter { $0.cidr(family) != nil }, primary: primary, clusterName: clusterName)
      let wasFailing = content.withLock { content in
        content.choice = choice
        content.rhythm.succeeded(time.now())
        return content.streak.succeeded()
      }
      // Also for the first listing at startup, before anybody listens.
      bell.ring()
      if wasFailing { logger.notice("EC2 lists subnets again") }
    } catch {
      let (wait, isFirst) = content.withLock { content in
        (content.rhythm.failed(time.now(), random: time.random()), content.streak.failed())
      }
      guard isFirst, !Task.isCancelled else { return }
      logger.warning(
        "cannot list subnets from EC2; keeping the last choice (initially the primary subnet)",
        metadata: [
          "error": "\(CauseChain.text(error))", "subnets": "\(choice.ordered)", "in": "\(wait.brief)",
          "permission": error.isMissingPermission ? "ec2:DescribeSubnets" : "",
        ])
    }
  }

  /// Waits until a listing has ended, well or badly, or until the limit. For one caller, once.
  func awaitFirst(within limit: Duration) async {
    guard isEnabled else { return }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { _ = await self.firstEnd.wait() }
      // Cancelled: the listing has ended.
      group.addTask { try? await self.time.sleep(limit) }
      await group.next()
      group.cancelAll()
    }
  }

  /// Lists whenever needed, until cancelled.
  ///
  /// - Parameter changed: called with each choice that differs from the one before.
  func run(from known: SubnetChoice, changed: @Sendable (_ old: SubnetChoice, _ new: SubnetChoice) async -> Void) async
  {
    var told = known
    while !Task.isCancelled {
      let new = choice
      if new != told {
        await changed(told, new)
        told = new
      }
      guard await isDue() else { continue }
      await read()
    }
  }

  /// Waits until a listing is due, or another change needs handling.
  private func isDue() async -> Bool {
    if let retryAt = content.withLock({ $0.rhythm.retryAt }) {
      // Cancelled: the caller looks.
      guard (try? await time.sleep(time.now().duration(to: retryAt))) != nil else { return false }
      return true
    }
    guard await bell.wait() else { return false }
    return content.withLock { content in
      guard let hint = content.hint else { return false }
      content.hint = nil
      return content.rhythm.isDue(hint, time.now())
    }
  }
}

/// Facts about one subnet in which this node has or may create ENIs.
struct SubnetUse: Sendable, Hashable {
  let id: SubnetID
  /// As EC2 last reported; nil if it has not.
  let freeAddresses: Int?
  /// No new ENIs or addresses there.
  let isExcluded: Bool

  init(id: SubnetID, freeAddresses: Int?, isExcluded: Bool = false) {
    self.id = id
    self.freeAddresses = freeAddresses
    self.isExcluded = isExcluded
  }
}

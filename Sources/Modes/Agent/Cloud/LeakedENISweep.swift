// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Logging
internal import VPCCloud
internal import VPCModel
internal import VPCTransport

/// When this node sweeps for leaked ENIs, so that a cluster of any size is swept about once an hour
/// (docs/decisions/0014). A value.
///
/// Every node sweeps the whole cluster, so with n nodes each should do it once in n hours. Draws of an exponential
/// distribution need no agreement between nodes: n of them with mean n hours are together one stream of mean 1 hour.
enum SweepRhythm {
  static let hour = Duration.seconds(3600)
  /// An ENI younger than this may be on its way to an instance.
  static let minimumAge = Duration.seconds(300)

  /// The wait before the first sweep: an hour on average, never less than five minutes.
  ///
  /// - Parameter random: 0 ..< 1.
  static func first(random: Double) -> Duration { minimumAge + draw(mean: hour - minimumAge, random) }

  /// The wait after a sweep: n hours on average, never less than one, so that no node sweeps twice an hour.
  ///
  /// - Parameter nodes: of the cluster, this one included.
  static func next(nodes: Int, random: Double) -> Duration { hour + draw(mean: hour * (max(nodes, 1) - 1), random) }

  private static func draw(mean: Duration, _ random: Double) -> Duration { mean * -log(1 - random) }
}

/// Deletes unattached ENIs that agents created: their instance ended before its agent could delete them.
struct LeakedENISweep: Sendable {
  let ec2: EC2Client
  let vpcID: String
  /// CLUSTER_NAME; empty: every cluster of the VPC.
  let clusterName: String
  let time: TimeSource
  let logger: Logger

  /// If the cluster's size is unknown: one sweep a day is enough.
  private static let unknownSize = 24

  /// What a sweep did.
  struct Outcome: Sendable, Hashable {
    var deleted: [ENIID] = []
    /// ENIs without a creation time: tagged with the current time.
    var tagged: [ENIID] = []
    var failed: [ENIID] = []
  }

  /// Sweeps until cancelled.
  func run() async {
    var wait = SweepRhythm.first(random: time.random())
    var size: Int?
    while (try? await time.sleep(wait)) != nil {
      await sweep()
      size = await nodes() ?? size
      wait = SweepRhythm.next(nodes: size ?? LeakedENISweep.unknownSize, random: time.random())
      logger.debug("next leaked-ENI sweep scheduled", metadata: ["nodes": "\(size ?? 0)", "next": "\(wait.brief)"])
    }
  }

  /// One sweep: lists the cluster's unattached ENIs and deletes those old enough.
  @discardableResult
  func sweep() async -> Outcome {
    var outcome = Outcome()
    do throws(EC2Error) {
      for eni in try await ec2.describeNetworkInterfaces(filters: filters(status: "available")) {
        guard eni.status == "available", eni.attachment == nil, eni.tags[ENITags.instanceKey] != nil,
          eni.description.hasPrefix(ENITags.descriptionPrefix)
        else { continue }
        guard await handle(eni, &outcome) else { break }
      }
    } catch {
      if !Task.isCancelled {
        logger.warning(
          "cannot list leaked ENIs; will retry at the next sweep", metadata: ["error": "\(CauseChain.text(error))"])
      }
    }
    if outcome != Outcome() {
      logger.notice(
        "leaked ENIs swept",
        metadata: ["deleted": "\(outcome.deleted)", "tagged": "\(outcome.tagged)", "failed": "\(outcome.failed)"])
    }
    return outcome
  }

  /// - Returns: false if EC2 throttles: the rest is left to the next sweep, or to another node's.
  private func handle(_ eni: EC2NetworkInterface, _ outcome: inout Outcome) async -> Bool {
    // Uses EC2's clock, like the creation time: two nodes' clocks may differ by minutes.
    let now = ec2.serviceTime
    do throws(EC2Error) {
      guard let created = eni.tags[ENITags.createdKey].flatMap({ UTCTime(iso8601: $0) }) else {
        try await ec2.createTags([ENITags.createdKey: now.description], interface: eni.id)
        outcome.tagged.append(eni.id)
        return true
      }
      // Handles creation times in the future: amazon-vpc-cni-k8s writes the time of its node's clock.
      guard now.seconds(since: created) >= SweepRhythm.minimumAge.components.seconds else { return true }
      _ = try await ec2.deleteNetworkInterface(eni.id)
      outcome.deleted.append(eni.id)
      return true
    } catch {
      // In use: it was attached meanwhile, so it is not leaked.
      if error.code == .interfaceInUse || error.isStillAttached || error.isNotFound { return true }
      outcome.failed.append(eni.id)
      if !Task.isCancelled {
        logger.warning(
          "cannot delete a leaked ENI; will retry at the next sweep",
          metadata: ["eni": "\(eni.id)", "error": "\(CauseChain.text(error))"])
      }
      return !(error.isThrottling || error.isMissingPermission || Task.isCancelled)
    }
  }

  /// The number of the cluster's instances with an agent's ENI; nil if EC2 does not answer.
  func nodes() async -> Int? {
    do throws(EC2Error) {
      let inUse = try await ec2.describeNetworkInterfaces(filters: filters(status: "in-use"))
      return max(Set(inUse.compactMap { $0.tags[ENITags.instanceKey] }).count, 1)
    } catch {
      logger.debug("cannot count the cluster's nodes", metadata: ["error": "\(CauseChain.text(error))"])
      return nil
    }
  }

  private func filters(status: String) -> [EC2Filter] {
    var filters = [
      EC2Filter("tag-key", [ENITags.instanceKey]), EC2Filter("status", [status]), EC2Filter("vpc-id", [vpcID]),
    ]
    if !clusterName.isEmpty { filters.append(EC2Filter("tag:\(ENITags.clusterKey)", [clusterName])) }
    return filters
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCCloud
internal import VPCModel

/// The CloudWatch connection, and the cluster of the values.
struct CloudWatchConnection: Sendable {
  let client: CloudWatchClient
  let clusterID: String

  /// Tags of the own instance that name the cluster; the first one found counts.
  ///
  /// Source: cni-metrics-helper of amazon-vpc-cni-k8s.
  static let clusterTags = ["eks:cluster-name", "CLUSTER_ID", "Name"]
  /// The name if there is no other.
  static let unknownCluster = "k8s-cluster"

  /// - Throws: `IMDSError` if the region is neither set nor available; `InvalidSetting` for a region or endpoint that
  ///   cannot be used.
  static func open(
    _ cloud: CloudAccess, clusterID: String?, logger: Logger
  ) async throws -> CloudWatchConnection {
    var region = cloud.configuredRegion
    if region == nil { region = try await cloud.imds.instanceIdentity().region }
    let client = try cloud.cloudWatch(region: region ?? "")
    var name = clusterID
    if name == nil { name = await findCluster(cloud, logger) }
    let connection = CloudWatchConnection(client: client, clusterID: name ?? unknownCluster)
    logger.info(
      "publishing metrics to CloudWatch", metadata: ["region": "\(region ?? "")", "cluster": "\(connection.clusterID)"])
    return connection
  }

  /// Nil if no tag names the cluster or none can be read; the log then has the remedy.
  private static func findCluster(_ cloud: CloudAccess, _ logger: Logger) async -> String? {
    do {
      let instance = try await cloud.imds.instanceIdentity()
      let tags = try await cloud.ec2(region: instance.region).instanceTags(instance.instanceID, keys: clusterTags)
      if let name = choose(tags) { return name }
      logger.warning(
        "no instance tag names the cluster; set AWS_CLUSTER_ID",
        metadata: ["instance": "\(instance.instanceID)", "used": "\(unknownCluster)"])
    } catch {
      logger.warning(
        "cannot determine the cluster name",
        metadata: [
          "error": "\(CauseChain.text(error))", "used": "\(unknownCluster)",
          "remedy": "set AWS_CLUSTER_ID, or allow ec2:DescribeTags and let the helper's pod reach IMDS (hop limit 2)",
        ])
    }
    return nil
  }

  /// The first tag of `clusterTags` with a valid CloudWatch value.
  static func choose(_ tags: [String: String]) -> String? {
    clusterTags.lazy.compactMap { tags[$0] }.first { MetricsHelperSettings.isClusterID($0) }
  }
}

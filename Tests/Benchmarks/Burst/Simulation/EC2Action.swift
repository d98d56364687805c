// SPDX-License-Identifier: Apache-2.0

/// The EC2 calls of a burst, each with its bucket and its latency: the one table of assumptions about EC2.
///
/// Buckets are of account and region, one for each action. Capacities and refills are those of
/// Tests/Simulator/simulator/buckets.py, after "Request throttling for the Amazon EC2 API", EC2 Developer Guide.
/// Latencies are round figures of the size that EC2 shows; AttachNetworkInterface is the slowest of them.
package enum EC2Action: Int, Sendable, CaseIterable {
  case createNetworkInterface, attachNetworkInterface, modifyNetworkInterfaceAttribute, assignPrivateIpAddresses
  case unassignPrivateIpAddresses, detachNetworkInterface, deleteNetworkInterface
  case describeSubnets, describeInstances, describeNetworkInterfaces

  package struct Bucket: Sendable, Hashable {
    package let capacity: Int
    package let refillPerSecond: Int
  }

  package var name: String {
    let name = "\(self)"
    return name.prefix(1).uppercased() + name.dropFirst()
  }

  package var bucket: Bucket {
    switch self {
    case .createNetworkInterface, .deleteNetworkInterface, .modifyNetworkInterfaceAttribute, .assignPrivateIpAddresses,
      .unassignPrivateIpAddresses:
      Bucket(capacity: 100, refillPerSecond: 5)
    case .attachNetworkInterface, .detachNetworkInterface: Bucket(capacity: 50, refillPerSecond: 5)
    // All of them name, filter or page what they want.
    case .describeSubnets, .describeInstances, .describeNetworkInterfaces: Bucket(capacity: 100, refillPerSecond: 20)
    }
  }

  /// From the request to the answer of a call that is not refused.
  package var latency: Duration {
    switch self {
    case .createNetworkInterface: .milliseconds(400)
    case .attachNetworkInterface: .milliseconds(1000)
    case .modifyNetworkInterfaceAttribute: .milliseconds(300)
    case .assignPrivateIpAddresses, .unassignPrivateIpAddresses: .milliseconds(500)
    case .detachNetworkInterface, .deleteNetworkInterface: .milliseconds(500)
    case .describeSubnets, .describeInstances, .describeNetworkInterfaces: .milliseconds(200)
    }
  }

  /// From the request to RequestLimitExceeded.
  package static let refusalLatency = Duration.milliseconds(50)
  /// From the end of AttachNetworkInterface until IMDS and the kernel show the ENI.
  package static let attachmentLag = Duration.seconds(1)
  /// From the end of DetachNetworkInterface until the ENI can be deleted.
  package static let detachmentLag = Duration.seconds(2)
}

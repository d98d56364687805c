// SPDX-License-Identifier: Apache-2.0

/// The EC2 calls of a burst, each with its bucket and its latency. This table holds all assumptions about EC2.
///
/// EC2 has a bucket for each action, account and region. Capacities and refill rates are those of
/// Tests/Simulator/simulator/buckets.py, from "Request throttling for the Amazon EC2 API", EC2 Developer Guide.
/// Latencies are round numbers in the range of EC2's; AttachNetworkInterface is the slowest call.
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
    // All of these calls name, filter or page their results.
    case .describeSubnets, .describeInstances, .describeNetworkInterfaces: Bucket(capacity: 100, refillPerSecond: 20)
    }
  }

  /// The time from the request to the answer of a call that is not refused.
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

  /// The time from the request to RequestLimitExceeded.
  package static let refusalLatency = Duration.milliseconds(50)
  /// The time from the end of AttachNetworkInterface until IMDS and the kernel show the ENI.
  package static let attachmentLag = Duration.seconds(1)
  /// The time from the end of DetachNetworkInterface until the ENI can be deleted.
  package static let detachmentLag = Duration.seconds(2)
}

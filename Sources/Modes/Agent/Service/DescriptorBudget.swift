// SPDX-License-Identifier: Apache-2.0
//
// Why clients get a share and no more: docs/decisions/0048-what-a-peer-may-hold.md

internal import VPCObserve
internal import VPCRPC

/// How the agent divides its file descriptors. Clients get a bounded share so that the agent's own opens never fail:
/// libdispatch, under Swift's tasks, ends the process when it cannot open a file of /proc.
struct DescriptorBudget: Sendable, Equatable {
  /// For the agent itself: threads' event queues, netlink, EC2, IMDS and the API server, logs, children's pipes, files that
  /// are read and written.
  static let reserve = 96
  /// With fewer the agent does not start.
  static let minimum = 128
  /// The maximum that it can use.
  static let wanted = 1_024

  /// Connections of plugins, probes and the network policy agent.
  let rpcConnections: Int
  /// Connections of each of the two endpoints for metrics and introspection.
  let httpConnections: Int

  /// Nil below the minimum.
  ///
  /// - Parameter limit: descriptors that the process may have open.
  init?(limit: Int) {
    guard limit >= DescriptorBudget.minimum else { return nil }
    let spare = limit - DescriptorBudget.reserve
    httpConnections = min(HTTPEndpoint.Limits().connections, spare / 4)
    rpcConnections = min(RPCServerLimits().connections, spare - 2 * httpConnections)
  }

  var rpcLimits: RPCServerLimits {
    var limits = RPCServerLimits()
    limits.connections = rpcConnections
    return limits
  }

  var httpLimits: HTTPEndpoint.Limits {
    var limits = HTTPEndpoint.Limits()
    limits.connections = httpConnections
    return limits
  }

  /// Why the agent does not start with so few.
  static func refusal(_ limit: Int) -> String {
    "may open \(limit) files, needs at least \(minimum): raise the limit of open files (ulimit -n, or LimitNOFILE= of the "
      + "container runtime's service)"
  }
}

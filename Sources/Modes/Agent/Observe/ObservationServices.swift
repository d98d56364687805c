// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCModel
internal import VPCObserve
internal import VPCRPC

/// Observation services beside the pool: metrics, introspection and log compression. None of them can keep the agent
/// from serving pods.
struct ObservationServices: Sendable {
  /// The contract's, on all addresses.
  static let metricsAddress = ListenAddress.tcp(host: nil, port: 61_678)

  let settings: Settings
  /// Of each endpoint.
  let limits: HTTPEndpoint.Limits
  let pool: AddressPool
  let metrics: AgentMetrics
  /// The last EC2 facts about the subnets in use.
  let subnets: @Sendable () -> [SubnetUse]
  /// The name of the node's ENIConfig; nil if the node was never read.
  let eniConfigName: @Sendable () -> String?
  let report: StatusReport
  let logger: Logger

  /// Runs until the task is cancelled.
  ///
  /// - Parameter server: whose event loop the endpoints share; it must outlive this.
  func run(beside server: RPCServer) async {
    let services = services(beside: server)
    await withTaskGroup(of: Void.self) { group in
      for service in services { group.addTask { await service.run() } }
      group.addTask { await LogUpkeep(settings: settings, logger: logger).run() }
    }
  }

  /// Metrics and introspection, unless disabled.
  private func services(beside server: RPCServer) -> [HTTPService] {
    var services: [HTTPService] = []
    if settings.servesMetrics {
      let handler: HTTPEndpoint.Handler = { [metrics, pool, subnets] path in
        guard path == "/metrics" else {
          return HTTPAnswer(status: 404, contentType: "text/plain", body: Array("metrics are at /metrics\n".utf8))
        }
        return HTTPAnswer(metrics: metrics.text(of: await pool.snapshot(), subnets: subnets()))
      }
      let address = ObservationServices.metricsAddress
      services.append(
        HTTPService(
          at: address, on: server.group, limits: limits, handler: handler, report: tell("metrics", address)))
    }
    if let address = settings.introspectionAddress {
      let introspection = Introspection(
        settings: settings, pool: pool, eniConfigName: eniConfigName, status: report.status)
      services.append(
        HTTPService(
          at: address, on: server.group, limits: limits, handler: { await introspection.answer($0) },
          report: tell("introspection", address)))
    }
    return services
  }

  private func tell(
    _ what: String, _ address: ListenAddress
  ) -> @Sendable (HTTPService.Report) -> Void {
    { [logger] report in
      switch report {
      case .listening:
        logger.info("listening", metadata: ["service": "\(what)", "address": "\(address)"])
      case .failed(let error):
        logger.warning(
          "cannot listen; will retry",
          metadata: ["service": "\(what)", "address": "\(address)", "error": "\(error)"])
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import VPCObserve
import VPCRPC

/// `vpc-cni health`: asks a gRPC server whether it is serving, as the grpc-health-probe of amazon-vpc-cni-k8s does.
package enum HealthMode {
  /// - Parameter arguments: those after the mode's name.
  /// - Returns: the exit status: 0 serving, 1 wrong arguments (and `-help`), 2 no connection, 3 the call failed, 4 not
  ///   serving. Messages go to standard error, one JSON line each.
  package static func run(arguments: [String]) -> Int32 {
    run(arguments: arguments, log: LineWriter(.stderr))
  }

  /// Its flags, for `vpc-cni help health`.
  package static var usage: String { String(HealthOptions.usage.dropLast()) }

  static func run(arguments: [String], log writer: LineWriter) -> Int32 {
    let logger = Logger(label: "health") { _ in JSONLineLogHandler(writer: writer, level: .info) }
    do throws(HealthOptions.Problem) {
      let options = try HealthOptions(arguments)
      guard let target = RPCTarget(options.address) else {
        throw HealthOptions.Problem(text: "error: --addr is no host:port and no unix:///path: \(options.address)")
      }
      return probe(target, options, logger)
    } catch {
      logger.info("\(error.text)")
      if error.showsUsage { writer.write(Array(HealthOptions.usage.utf8)) }
      return 1
    }
  }

  private static func probe(_ target: RPCTarget, _ options: HealthOptions, _ logger: Logger) -> Int32 {
    let start = ContinuousClock.now
    let connectDeadline = start.advanced(by: options.connectTimeout)
    var health = HealthClient(target: target)
    health.client.userAgent = options.userAgent
    if options.isVerbose {
      let times =
        "conn-timeout=\(GoDuration.text(options.connectTimeout)) rpc-timeout=\(GoDuration.text(options.rpcTimeout))"
      logger.info("parsed options:")
      logger.info("> remoteUrl=\(options.address) \(times)")
      logger.info("establishing connection")
    }
    while true {
      let attempt = ContinuousClock.now
      do throws(RPCError) {
        let status = try health.check(
          service: options.service, timeout: options.rpcTimeout, connectTimeout: attempt.duration(to: connectDeadline))
        let name = text(status)
        guard status == .serving else {
          logger.info("service unhealthy (responded with \"\(name)\")")
          return 4
        }
        if options.isVerbose { logger.info("time elapsed: \(GoDuration.text(start.duration(to: .now)))") }
        logger.info("status: \(name)")
        return 0
      } catch {
        guard error.isConnectFailure else {
          logger.info("\(failureText(error, options))")
          return 3
        }
        // The original probe redials until its timeout, and scripts that call it in a loop rely on that for their pace.
        guard sleepBriefly(until: connectDeadline) else {
          let limit = GoDuration.text(options.connectTimeout)
          logger.info("timeout: failed to connect service \"\(options.address)\" within \(limit)")
          return 2
        }
      }
    }
  }

  private static func failureText(_ error: RPCError, _ options: HealthOptions) -> String {
    switch error.code {
    case .unimplemented: "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    case .deadlineExceeded: "timeout: health rpc did not complete within \(GoDuration.text(options.rpcTimeout))"
    default: "error: health rpc failed: \(error.status)"
    }
  }

  /// Waits a twentieth of a second, or the rest; false when no time is left.
  private static func sleepBriefly(until deadline: ContinuousClock.Instant) -> Bool {
    let left = min(ContinuousClock.now.duration(to: deadline), .milliseconds(50))
    guard left > .zero else { return false }
    usleep(UInt32(left / .microseconds(1)))
    return true
  }

  private static func text(_ status: HealthCheckResponse.ServingStatus) -> String {
    switch status {
    case .unknown: "UNKNOWN"
    case .serving: "SERVING"
    case .notServing: "NOT_SERVING"
    case .serviceUnknown: "SERVICE_UNKNOWN"
    case .UNRECOGNIZED(let value): String(value)
    }
  }
}

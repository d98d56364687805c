// SPDX-License-Identifier: Apache-2.0
//
// The chained CNI plugin `egress-cni`: it follows aws-cni in a conflist and gives a pod a second interface, by which it
// reaches the family that the cluster does not have. The flow: `EgressProcess` parses environment and standard input,
// `EgressCall` runs the command. It shares the protocol with the plugin aws-cni, and needs no agent.

import Logging
import VPCLinux
import VPCModel

/// The mode that runtimes call as `egress-cni`.
package enum EgressMode {
  /// Serves one call of the protocol, as `PluginMode.run` does.
  ///
  /// - Returns: the exit status, 0 or 1.
  package static func run() -> Int32 {
    let process = EgressProcess(
      environment: CNIParameter.environment(),
      input: { () throws(CNIError) in try StandardStreams.readInput(timeout: Patience.input) },
      kernel: HostKernel(), firewall: EgressFirewall(), log: { PluginLog.make($0, label: "egress-cni") },
      now: { ContinuousClock.now })
    let answer = process.run()
    StandardStreams.writeOutput(answer.output)
    return answer.status
  }
}

/// The process as a function: environment and standard input in, standard output and exit status out.
struct EgressProcess {
  let environment: [String: String]
  /// The complete standard input; read only by commands that need it.
  let input: () throws(CNIError) -> [UInt8]
  let kernel: HostKernel
  let firewall: EgressFirewall
  let log: (NetworkConfiguration) -> Logger
  let now: () -> ContinuousClock.Instant

  func run() -> PluginProcess.Answer {
    PluginProcess.Answer { (version) throws(CNIError) in try answer(version: &version) }
  }

  private func answer(version: inout CNIVersion) throws(CNIError) -> JSONValue? {
    let request = try CNIRequest(environment: environment)
    if request.command == .version { return CNIVersion.answer }
    let configuration = try EgressConfiguration(try input())
    version = configuration.network.version
    try PluginProcess.check(request.command, version)
    let log = log(configuration.network)
    let call = EgressCall(
      request: request, configuration: configuration, kernel: kernel, firewall: firewall, log: log)
    let start = now()
    var metadata: Logger.Metadata = [
      LogKey.command: "\(request.command.rawValue)", LogKey.network: "\(configuration.network.name)",
      LogKey.container: "\(request.containerID)", LogKey.netns: "\(request.netns)",
      LogKey.pod: "\(request.arguments.podNamespace)/\(request.arguments.podName)",
    ]
    let result = Result { () throws(CNIError) in try call.run() }
    metadata[LogKey.duration] = "\(start.duration(to: now()).wholeMicroseconds)"
    switch result {
    case .success:
      log.info("done", metadata: metadata)
    case .failure(let error):
      metadata[LogKey.code] = "\(error.code.number)"
      metadata[LogKey.cause] = "\(error.message)"
      log.error("failed", metadata: metadata)
    }
    return try result.get()
  }
}

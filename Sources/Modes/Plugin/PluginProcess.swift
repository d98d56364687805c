// SPDX-License-Identifier: Apache-2.0

import Logging
import VPCModel

/// The plugin's process as a function: environment and standard input in, standard output and exit status out.
struct PluginProcess {
  let environment: [String: String]
  /// The complete standard input; read only by commands that need it.
  let input: () throws(CNIError) -> [UInt8]
  let agent: any AgentPort
  let policy: any PolicyPort
  let kernel: any KernelPort
  let checkpoints: () throws -> [[UInt8]]
  let log: (NetworkConfiguration) -> Logger
  let now: () -> ContinuousClock.Instant

  struct Answer: Sendable, Hashable {
    /// One JSON document and a line feed, or nothing.
    let output: [UInt8]
    let status: Int32
  }

  func run() -> Answer { Answer { (version) throws(CNIError) in try answer(version: &version) } }

  private func answer(version: inout CNIVersion) throws(CNIError) -> JSONValue? {
    let request = try CNIRequest(environment: environment)
    // VERSION does not need the configuration.
    if request.command == .version { return CNIVersion.answer }
    let configuration = try NetworkConfiguration(try input())
    version = configuration.version
    try PluginProcess.check(request.command, configuration.version)
    let call = PluginCall(
      request: request, configuration: configuration, agent: agent, policy: policy, kernel: kernel,
      checkpoints: checkpoints, log: log(configuration), now: now)
    return try run(call)
  }

  /// Runs the command and logs its result in one line.
  private func run(_ call: PluginCall) throws(CNIError) -> JSONValue? {
    let start = now()
    var metadata: Logger.Metadata = [
      LogKey.command: "\(call.request.command.rawValue)", LogKey.network: "\(call.configuration.name)",
    ]
    if let interface = call.request.interface {
      metadata[LogKey.container] = "\(call.request.containerID)"
      metadata[LogKey.pod] = "\(call.request.arguments.podNamespace)/\(call.request.arguments.podName)"
      metadata[LogKey.interface] = "\(interface)"
      metadata[LogKey.netns] = "\(call.request.netns)"
    }
    do {
      let result = try call.run()
      metadata[LogKey.duration] = "\(start.duration(to: now()).wholeMicroseconds)"
      if let addresses = result?["ips"]?.array {
        metadata[LogKey.address] = "\(addresses.compactMap { $0["address"]?.string }.joined(separator: ","))"
      }
      call.log.info("done", metadata: metadata)
      return result
    } catch {
      metadata[LogKey.duration] = "\(start.duration(to: now()).wholeMicroseconds)"
      metadata[LogKey.code] = "\(error.code.number)"
      metadata[LogKey.cause] = "\(error.message)"
      call.log.error("failed", metadata: metadata)
      throw error
    }
  }

  /// A command must exist in the configuration's version.
  static func check(_ command: CNICommand, _ version: CNIVersion) throws(CNIError) {
    let allowed =
      switch command {
      case .check: version.allowsCheck
      case .status, .collectGarbage: version.allowsGCAndStatus
      case .add, .delete, .version: true
      }
    guard allowed else {
      throw CNIError(
        .incompatibleVersion, "config version does not allow \(command.rawValue)",
        details: "config cniVersion is \"\(version.rawValue)\"")
    }
  }
}

extension PluginProcess.Answer {
  /// - Parameter serve: serves the call, and sets the version as soon as a configuration names it.
  init(_ serve: (_ version: inout CNIVersion) throws(CNIError) -> JSONValue?) {
    // The newest until a configuration says otherwise.
    var version = CNIVersion.current
    do {
      self.init(output: try serve(&version).map { $0.bytes + [0x0a] } ?? [], status: 0)
    } catch {
      self.init(output: error.json(version: version).bytes + [0x0a], status: 1)
    }
  }
}

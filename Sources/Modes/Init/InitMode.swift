// SPDX-License-Identifier: Apache-2.0
//
// `vpc-cni init`, the init container of the aws-node pod: installs programs on the host, sets kernel settings, then
// exits. See also: HostSettings (what is set), CorePlugins and HostPrograms (what is copied).

internal import Glibc
internal import Logging
internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCObserve
internal import VPCSystem
internal import VPCTransport

/// The host setup. It takes no arguments; its settings are environment variables (docs/configuration.md).
package enum InitMode {
  /// - Returns: 1 if a setting is refused or a step fails, 64 for an argument; otherwise it exits the process itself: 0
  ///   when the host is set up, 143 on SIGTERM, without half-written files.
  package static func run(arguments: [String]) -> Int32 {
    let logger = Logger(label: "init") { _ in JSONLineLogHandler(writer: LineWriter(.stdout), level: .info) }
    guard arguments.isEmpty else {
      logger.error("takes no arguments; settings are environment variables", metadata: ["argument": "\(arguments[0])"])
      return 64
    }
    // Before any thread starts, so that every thread blocks these signals.
    let signals = SignalQueue()
    let environment = ProcessEnvironment.variables()
    let settings: NodeSettings
    do {
      settings = try NodeSettings(environment: environment)
    } catch {
      logger.critical("cannot set up the host", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
    Task {
      exit(await HostSetup(settings: settings, environment: environment, logger: logger).run())
    }
    return 128 + signals.next()
  }
}

/// One run of the init container.
struct HostSetup: Sendable {
  let settings: NodeSettings
  let environment: [String: String]
  let logger: Logger

  /// IMDS is available from a node's first second; otherwise kubelet should see a failing container.
  private static let imdsLimit = Duration.seconds(60)

  /// - Returns: the exit status.
  func run() async -> Int32 {
    for warning in settings.warnings { logger.warning("invalid setting", metadata: ["warning": "\(warning)"]) }
    do {
      try install()
      let enis = try await enis()
      let socket = try NetlinkSocket()
      let links = try Link.list(on: socket)
      func interface(_ mac: MACAddress) -> InterfaceName? {
        links.first { $0.mac == mac && $0.kind != "vlan" }.flatMap { InterfaceName($0.name) }
      }
      guard let primary = interface(enis.primary) else { throw InitError.noPrimary(enis.primary) }
      let others = enis.all.filter { $0 != enis.primary }.compactMap(interface)
      let changed = try HostSettings(
        settings, primary: primary, others: others,
        agentSetsLater: FileInstallation.isThere("\(Sysctl.hostRoot)/net")
      ).apply()
      logger.info("sysctls set", metadata: ["changed": .texts(changed), "primary": "\(primary)"])
      logger.info("CNI init container done")
      return 0
    } catch {
      logger.critical("cannot set up the host", metadata: ["error": "\(CauseChain.text(error))"])
      return 1
    }
  }

  private func install() throws {
    for (name, outcome) in try HostPrograms.install(try ProcessEnvironment.program(), into: settings.binaryFolder) {
      logger.info("CNI plugin installed", metadata: ["name": "\(name)", "outcome": "\(outcome)"])
    }
    let plugins = try CorePlugins.install(from: settings.corePluginsFolder, into: settings.binaryFolder)
    logger.info(
      "standard CNI plugins installed",
      metadata: ["installed": .texts(plugins.missing), "kept": .texts(plugins.present)])
  }

  /// MAC addresses of the attached ENIs, by IMDS.
  private func enis() async throws -> (primary: MACAddress, all: [MACAddress]) {
    // IMDS is never reached by a proxy.
    let imds = IMDSClient(
      transport: CurlTransport(), settings: try IMDSClient.Settings(environment: CloudEnvironment(environment)))
    return try await imds.untilAnswered(
      within: HostSetup.imdsLimit,
      retrying: { error, wait in
        logger.warning(
          "cannot list network interfaces from IMDS; will retry",
          metadata: ["error": "\(CauseChain.text(error))", "in": "\(wait.brief)"])
      },
      { (imds) throws(IMDSError) in (try await imds.mac(), try await imds.interfaceMACs()) })
  }
}

extension Logger.MetadataValue {
  /// A list in the log line.
  fileprivate static func texts(_ texts: [String]) -> Logger.MetadataValue { .array(texts.map { .string($0) }) }
}

/// Why a host cannot be set up.
enum InitError: Error, Hashable, CustomStringConvertible {
  case noPrimary(MACAddress)

  var description: String {
    switch self {
    case .noPrimary(let mac):
      "no interface has the MAC address \(mac) of the primary ENI that IMDS names: does this container run with the host's network?"
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// Maintains the node's firewall rules: SNAT, and the marks that route replies of NodePort connections back to the
/// primary ENI. Has its own thread, since it may wait for the xtables lock and no ENI must wait for that.
actor HostRulesKeeper {
  /// Inputs of the rules besides the settings.
  struct Subject: Sendable {
    /// The primary ENI's MAC. Its link is looked up every time: it may have been renamed.
    var primary: MACAddress
    var address: IPAddress
    var vpcCIDRs: [IPPrefix]
    /// Pods and connections from before a settings change.
    var earlier = EarlierSettings()
  }

  private let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let settings: NetworkSettings
  private let socket: NetlinkSocket
  private let firewall = HostFirewall()
  private let logger: Logger
  private let observe: @Sendable (FirewallReport) -> Void
  private var subject: Subject?
  /// Rings when something is unfinished.
  nonisolated let unfinished = Bell()
  private var said = Said()

  /// How long to wait for the xtables lock while nothing else waits for this thread.
  private static let patience = 30

  /// The last logged states, so that each is logged once.
  private struct Said {
    var backend: FirewallBackend?
    var primary: String?
    var substitutes: String?
    var fallback: String?
    var failures: [String] = []
    var usesHashedPorts = false
    var droppingForward: [ForwardPolicy] = []
    var overlaps: [String] = []
  }

  /// To be made in the node's network namespace.
  ///
  /// - Parameter observe: receives every report.
  init(
    settings: NetworkSettings, logger: Logger, observe: @escaping @Sendable (FirewallReport) -> Void
  ) throws {
    executor = try ThreadExecutor(name: "firewall")
    socket = try NetlinkSocket()
    self.settings = settings
    self.logger = logger
    self.observe = observe
  }

  /// Writes the rules for the given inputs, and remembers them.
  ///
  /// - Parameter lockWaitSeconds: how long to wait for the xtables lock.
  /// - Throws: if the primary ENI has no link. Refusals of the firewall are in the report.
  func apply(_ subject: Subject, lockWaitSeconds: Int = patience) throws -> FirewallReport {
    self.subject = subject
    return try apply(to: subject, lockWaitSeconds)
  }

  /// Checks the rules against the last `apply` and repairs them; nil before the first `apply`.
  ///
  /// - Parameter earlier: as it is now.
  func verify(_ earlier: EarlierSettings) throws -> FirewallReport? {
    subject?.earlier = earlier
    return try subject.map { try apply(to: $0, HostRulesKeeper.patience) }
  }

  private func apply(to subject: Subject, _ lockWaitSeconds: Int) throws -> FirewallReport {
    let links = try Link.find(mac: subject.primary, on: socket)
    guard let link = ENILinks(links).best else { throw NodeNetworkError.noPrimaryLink(subject.primary) }
    let rules = settings.hostRules(
      address: subject.address, interface: link.name, vpcCIDRs: subject.vpcCIDRs, earlier: subject.earlier)
    sayOverlaps(subject.vpcCIDRs)
    let report = firewall.apply(rules, lockWaitSeconds: lockWaitSeconds)
    say(report, primary: link.name)
    observe(report)
    if !report.isComplete { unfinished.ring() }
    return report
  }

  // MARK: the log

  /// Settings that conflict with this VPC.
  private func sayOverlaps(_ vpcCIDRs: [IPPrefix]) {
    var overlaps: [String] = []
    for service in settings.externalServiceCIDRs {
      guard let vpc = vpcCIDRs.first(where: { $0.overlaps(service) }) else { continue }
      overlaps.append(
        "AWS_EXTERNAL_SERVICE_CIDRS \(service) overlaps \(vpc) of the VPC: pods on secondary ENIs would send there through the primary ENI, and the VPC drops those packets"
      )
    }
    for excluded in settings.excludedSNATCIDRs {
      guard let vpc = vpcCIDRs.first(where: { $0.contains(excluded) }) else { continue }
      overlaps.append(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS \(excluded) is within \(vpc) of the VPC, which is always excluded: no effect"
      )
    }
    defer { said.overlaps = overlaps }
    guard overlaps != said.overlaps, !overlaps.isEmpty else { return }
    logger.warning("settings conflict with the VPC CIDRs", metadata: ["conflicts": "\(overlaps)"])
  }

  private func say(_ report: FirewallReport, primary: String) {
    if !report.changes.isEmpty || said.backend != report.backend {
      logger.notice(
        report.changes.isEmpty ? "firewall rules in place" : "firewall rules written",
        metadata: [
          "backend": "\(report.backend.rawValue)", "primary": "\(primary)", "changes": "\(report.changes.prefix(20))",
        ])
    }
    said.backend = report.backend
    if !report.left.isEmpty {
      logger.notice(
        "iptables backend changed; new connections at that moment may need a retry",
        metadata: ["from": "\(report.left.map(\.rawValue))", "to": "\(report.backend.rawValue)"])
    }
    saySubstitution(report)
    sayFallback(report)
    sayFailures(report)
    if report.usesHashedPorts, !said.usesHashedPorts {
      logger.warning("iptables is too old for --random-fully; using --random for SNAT source ports")
    }
    said.usesHashedPorts = report.usesHashedPorts
    sayForwarding(report)
  }

  private func saySubstitution(_ report: FirewallReport) {
    let cause = report.substitutes.map { CauseChain.text($0) }
    defer { said.substitutes = cause }
    guard let cause, cause != said.substitutes else { return }
    logger.warning(
      "no working iptables; using nftables for all firewall rules",
      metadata: [
        "error": "\(cause)", "tables": "aws-cni, vpc-cni-host",
        "not covered": "rules that iptables wrote earlier stay until iptables works again",
        "remedy": "install the iptables backend that kube-proxy uses; checked every minute",
      ])
  }

  private func sayFallback(_ report: FirewallReport) {
    let cause = report.fallback.map { CauseChain.text($0) }
    defer { said.fallback = cause }
    guard let cause, cause != said.fallback else { return }
    logger.warning(
      "kube-proxy's iptables backend and nftables refuse the firewall rules; using the other iptables backend",
      metadata: ["error": "\(cause)", "backend": "\(report.backend.rawValue)"])
  }

  private func sayFailures(_ report: FirewallReport) {
    let failures = report.failures.map { CauseChain.text($0) }
    defer { said.failures = failures }
    guard failures != said.failures else { return }
    if failures.isEmpty { return logger.notice("all firewall rules in place again") }
    logger.error(
      "cannot write all firewall rules; pod traffic may leave the VPC without SNAT; will retry",
      metadata: [
        "errors": "\(failures)",
        "remedy": "see errors; behind a NAT gateway, AWS_VPC_K8S_CNI_EXTERNALSNAT=true needs no rules",
      ])
  }

  private func sayForwarding(_ report: FirewallReport) {
    let chains = report.droppingForward
    defer { said.droppingForward = chains }
    guard chains != said.droppingForward else { return }
    if chains.isEmpty { return logger.notice("FORWARD policy no longer drops packets") }
    logger.warning(
      "FORWARD policy drops packets; pod traffic without an accept rule is lost",
      metadata: [
        "chains": "\(chains.map(\.chain))",
        "remedy": "accept pod traffic there, or set the policy to accept (iptables -P FORWARD ACCEPT)",
      ])
  }
}

/// SNAT, and the marks that route replies of NodePort connections back to the primary ENI.
extension NodeNetwork {
  /// Writes the node's firewall rules for the settings, and remembers the inputs. Writes nothing if all rules are in
  /// place. Refusals of the firewall are in the report and in the log, and `HostRulesWatch` retries them.
  ///
  /// - Parameter lockWaitSeconds: how long to wait for the xtables lock.
  /// - Throws: if the primary ENI has no link.
  nonisolated func applyHostRules(
    primary: MACAddress, address: IPAddress, vpcCIDRs: [IPPrefix], lockWaitSeconds: Int = 30
  ) async throws -> FirewallReport {
    try await hostRules.apply(
      HostRulesKeeper.Subject(primary: primary, address: address, vpcCIDRs: vpcCIDRs, earlier: await earlier),
      lockWaitSeconds: lockWaitSeconds)
  }

  /// Checks that the rules still match the last `applyHostRules`, repairs them, and returns what was written. Costs one
  /// nftables request if all rules are there and nothing changed, else one process per iptables backend.
  ///
  /// - Returns: nil before the first `applyHostRules`.
  nonisolated func verifyHostRules() async throws -> FirewallReport? {
    try await hostRules.verify(await earlier)
  }
}

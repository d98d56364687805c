// SPDX-License-Identifier: Apache-2.0
//
// Gathers all facts concurrently, each on its own thread or task, with one common deadline: facts missing by then are
// "could not look". Changes nothing.
//
//   agent, status, host, firewall, lock ─┐
//   kernel ──┬───────────────────────────┤
//   metadata ┼─▶ differences ────────────┼─▶ NodeFacts
//            └─▶ cloud ──────────────────┤
//   pods ────────────────────────────────┘

internal import VPCCloud
internal import VPCLinux
internal import VPCModel
internal import VPCObserve
internal import VPCRPC
internal import VPCSystem

/// One collection of facts.
struct FactGathering {
  /// The common deadline; a healthy node needs a tenth of it.
  static let limit = Duration.milliseconds(4500)

  let processes: ProcessTable
  let settings: SettingsFacts
  let introspection: AgentIntrospection

  /// - Parameter address: of introspection; nil for the agent's own setting.
  init(address: ListenAddress?) {
    processes = ProcessTable.read()
    let own = ProcessEnvironment.variables()
    let agent = processes.agent.map { ProcessTable.environment(of: $0.pid) } ?? [:]
    settings = SettingsFacts(agent: agent, own: own)
    introspection = address.map(AgentIntrospection.init(address:)) ?? AgentIntrospection(environments: [own, agent])
  }

  /// Blocks for `limit` at most.
  func gather() -> NodeFacts {
    let end = ContinuousClock.now.advanced(by: FactGathering.limit)
    let agent = start { Fact.known(AgentFacts.ask()) }
    let status = start { () -> Fact<AgentStatus> in
      do throws(HTTPFetch.Failure) {
        return .known(try introspection.status(timeout: .seconds(3)))
      } catch {
        return .unknown(error.description)
      }
    }
    let processes = processes
    let settings = settings
    let host = start { HostFacts.read(processes, agent: processes.agent?.pid) }
    let firewall = start { FirewallFacts.read() }
    let lock = start { LockFacts.read() }
    let kernel = start { KernelFacts.read(settings.settings?.family ?? .ipv4) }
    let pods = start {
      PodFacts.read(path: settings.settings?.checkpointPath ?? Settings.standardCheckpoint, settings: settings.settings)
    }
    let access = CloudLook(variables: settings.variables)
    let reading = Task { await access.metadata() }
    let metadata = BackgroundResult.ofTask { await reading.value }
    let cloud = BackgroundResult.ofTask { await access.cloud(await reading.value) }

    var facts = NodeFacts()
    facts.settings = settings
    facts.agent = wait(agent, end)
    facts.status = wait(status, end)
    facts.kernel = wait(kernel, end)
    facts.firewall = wait(firewall, end)
    facts.lock = wait(lock, end)
    facts.pods = wait(pods, end)
    facts.host = host?.wait(within: left(end)) ?? HostFacts()
    let seen = metadata.wait(within: left(end))
    facts.metadata = seen.map { .known($0.facts) } ?? late()
    facts.differences = seen.map { differences(access.wanted(settings, $0), facts.status.value, end) } ?? late()
    facts.cloud = cloud.wait(within: left(end)) ?? late()
    return facts
  }

  private func differences(
    _ wanted: Fact<WantedNetwork>, _ status: AgentStatus?, _ end: ContinuousClock.Instant
  ) -> Fact<[String]> {
    switch wanted {
    case .unknown(let why): .unknown(why)
    case .known(let wanted): wait(start { wanted.differences(status) }, end)
    }
  }

  private func start<Value: Sendable>(_ body: @escaping @Sendable () -> Value) -> BackgroundResult<Value>? {
    try? BackgroundResult.ofThread(body)  // if no thread can be created: "could not look"
  }

  private func wait<Value: Sendable>(
    _ result: BackgroundResult<Fact<Value>>?, _ end: ContinuousClock.Instant
  ) -> Fact<Value> { result?.wait(within: left(end)) ?? late() }

  private func late<Value: Sendable>() -> Fact<Value> { .unknown("no answer within \(FactGathering.limit.brief)") }

  private func left(_ end: ContinuousClock.Instant) -> Duration { max(ContinuousClock.now.duration(to: end), .zero) }
}

extension Settings {
  /// AWS_VPC_K8S_CNI_BACKING_STORE's default.
  static let standardCheckpoint = "/var/run/aws-node/ipam.json"
}

extension SettingsFacts {
  /// The agent's environment counts; if it is not readable, this process's own, which is the same inside the agent's
  /// container.
  init(agent: [String: String], own: [String: String]) {
    let isOurs = { (variables: [String: String]) in
      ["ENABLE_IPv4", "ENABLE_IPv6", "WARM_ENI_TARGET", "WARM_IP_TARGET", "AWS_VPC_K8S_CNI_LOG_FILE"].contains {
        variables[$0] != nil
      }
    }
    if !agent.isEmpty {
      (source, variables) = ("the agent's environment", agent)
    } else if isOurs(own) {
      (source, variables) = ("this process's environment", own)
    } else {
      variables = own
    }
    do throws(SettingError) {
      settings = try Settings(environment: variables)
    } catch {
      refused = "\(error)"
    }
  }
}

extension AgentFacts {
  /// Asks the health service once.
  static func ask() -> AgentFacts {
    let began = ContinuousClock.now
    let client = HealthClient(target: .unix(path: "/var/run/aws-node/ipamd.sock"))
    do throws(RPCError) {
      let status = try client.check(service: "", timeout: .seconds(3), connectTimeout: .seconds(1))
      let after = began.duration(to: .now)
      let said = status == .serving ? "SERVING" : "the agent answers but is not serving: it is starting or stopping"
      return AgentFacts(serves: status == .serving, said: said, after: after)
    } catch {
      let said =
        error.isConnectFailure
        ? "no process listens at /var/run/aws-node/ipamd.sock (\(error.status))" : "no answer: \(error.status)"
      return AgentFacts(serves: false, said: said, after: began.duration(to: .now))
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

import Logging
import Synchronization
import Testing
import VPCCloud
import VPCLinux
import VPCTransport

@testable import AgentMode
@testable import VPCModel

/// The parts of `Modes/Agent/Cloud` on a `FakeCloud` and with a clock of the test. They do not touch the kernel: the
/// node's network has nothing wired, so its source map is empty.
struct CloudFixture {
  let cloud: FakeCloud
  let time: VirtualTime
  let log: LogRecorder
  let ec2: EC2Client
  let imds: IMDSClient
  let identity: NodeIdentity
  let enis: NodeENIs

  init(
    _ cloud: FakeCloud = FakeCloud(), time: VirtualTime = VirtualTime(), mode: NodeENIs.Mode = NodeENIs.Mode(),
    clusterName: String = "", additionalTags: [String: String] = [:], discovers: Bool = true
  ) async throws {
    self.cloud = cloud
    self.time = time
    log = LogRecorder()
    let logger = log.logger
    let keys = EnvironmentSource(
      environment: CloudEnvironment(["AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"]))
    let url = try #require(EndpointURL("https://ec2.us-east-1.amazonaws.com"))
    ec2 = EC2Client(
      transport: cloud, endpoint: ServiceEndpoint(service: .ec2, region: "us-east-1", url: url),
      credentials: CredentialsProvider(sources: [keys]), userAgent: "test", time: time.source)
    imds = IMDSClient(transport: cloud, time: time.source)
    identity = try await NodeIdentity.read(from: imds, .ipv4)
    let settings = try Settings(environment: [:])
    let directory = ENIDirectory()
    directory.setCIDR(identity.primarySubnetCIDR, of: identity.primarySubnet)
    let subnets = SubnetDirectory(
      ec2: ec2, identity: identity, clusterName: clusterName, isEnabled: discovers, enis: directory, time: time.source,
      logger: logger)
    enis = NodeENIs(
      ec2: ec2, imds: imds,
      network: try NodeNetwork(settings: NetworkSettings(settings), logger: logger),
      directory: directory, subnets: subnets, primary: PrimaryState(identity.primary, identity.family),
      identity: identity,
      tags: ENITags(instanceID: "i-1", clusterName: clusterName, additional: additionalTags), mode: mode,
      time: time.source, logger: logger)
    cloud.forgetCalls()
  }

  static func eni(_ id: String) throws -> ENIID { try #require(ENIID(id)) }

  func request(_ count: Int = 3, _ kind: CIDRKind = .address, device: Int = 1) -> AttachRequest {
    AttachRequest(device: device, card: 0, subnet: identity.primarySubnet, kind: kind, count: count)
  }
}

/// A clock that stands still until a test moves it; sleepers wake in order of time.
final class VirtualTime: Sendable {
  private struct Sleeper {
    let id: Int
    let at: Duration
    let continuation: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var elapsed = Duration.zero
    var sleepers: [Sleeper] = []
    var cancelled: Set<Int> = []
    var lastID = 0
    var generator: SplitMix64
    var slept: [Duration] = []
  }

  private let start = ContinuousClock.now
  private let state: Mutex<State>
  private let isAutomatic: Bool

  /// - Parameter isAutomatic: whether a sleeper wakes at once and the clock advances by the time it asked for.
  init(seed: UInt64 = 1, isAutomatic: Bool = true) {
    state = Mutex(State(generator: SplitMix64(seed: seed)))
    self.isAutomatic = isAutomatic
  }

  var elapsed: Duration { state.withLock { $0.elapsed } }
  var slept: [Duration] { state.withLock { $0.slept } }
  var sleepers: Int { state.withLock { $0.sleepers.count } }

  var source: TimeSource {
    TimeSource(
      now: { self.start.advanced(by: self.elapsed) }, sleep: { try await self.sleep($0) },
      random: { self.state.withLock { Double.random(in: 0..<1, using: &$0.generator) } })
  }

  private func sleep(_ duration: Duration) async throws {
    try Task.checkCancellation()
    if isAutomatic {
      state.withLock { state in
        state.elapsed += max(.zero, duration)
        state.slept.append(duration)
      }
      return await Task.yield()
    }
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let isCancelled = state.withLock { state in
          if state.cancelled.remove(id) != nil { return true }
          state.sleepers.append(
            Sleeper(id: id, at: state.elapsed + max(.zero, duration), continuation: continuation))
          return false
        }
        if isCancelled { continuation.resume(throwing: CancellationError()) }
      }
    } onCancel: {
      let sleeper = state.withLock { state in
        guard let index = state.sleepers.firstIndex(where: { $0.id == id }) else {
          state.cancelled.insert(id)
          return nil as Sleeper?
        }
        return state.sleepers.remove(at: index)
      }
      sleeper?.continuation.resume(throwing: CancellationError())
    }
  }

  /// Moves the clock without waking any sleeper.
  func advance(_ duration: Duration) { state.withLock { $0.elapsed += duration } }

  /// Waits until this number of tasks sleep, then wakes the first of them.
  func step(sleepers count: Int) async throws {
    // Usually they are about to sleep.
    for _ in 0..<100 where sleepers < count { await Task.yield() }
    try await eventually("\(count) asleep") { self.sleepers >= count }
    let first = state.withLock { state in
      state.sleepers.sort { ($0.at, $0.id) < ($1.at, $1.id) }
      let first = state.sleepers.removeFirst()
      state.elapsed = max(state.elapsed, first.at)
      return first
    }
    first.continuation.resume()
  }
}

/// Keeps log entries of level info and above, one line of text each.
final class LogRecorder: Sendable {
  private let lines = Mutex<[String]>([])

  var all: [String] { lines.withLock { $0 } }

  func count(_ part: String) -> Int { all.count { $0.contains(part) } }

  var logger: Logger {
    var logger = Logger(label: "test") { _ in Handler(recorder: self) }
    logger.logLevel = .info
    return logger
  }

  private struct Handler: LogHandler {
    let recorder: LogRecorder
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      let more = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
      recorder.lines.withLock { $0.append("\(event.level) \(event.message) \(more.joined(separator: " "))") }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCCloud
internal import VPCKube
internal import VPCModel
internal import VPCSystem
internal import VPCTransport

/// Rate limit for events: each cause once per interval. A value.
struct EventLimit: Sendable {
  /// The same reason and action are not reported again before this.
  static let interval = Duration.seconds(600)
  /// More kinds than can occur; a bound for safety.
  private static let kinds = 64

  private var toldAt: [String: ContinuousClock.Instant] = [:]

  mutating func admits(_ kind: String, _ now: ContinuousClock.Instant) -> Bool {
    if let last = toldAt[kind], last.duration(to: now) < EventLimit.interval { return false }
    if toldAt.count >= EventLimit.kinds { toldAt = toldAt.filter { $0.value.duration(to: now) < EventLimit.interval } }
    guard toldAt.count < EventLimit.kinds else { return false }
    toldAt[kind] = now
    return true
  }
}

/// Reports in events on the agent's own pod why pods of this node get no address. Without a reachable API server the
/// events are dropped: the pods' own events carry each cause too.
final class EventReporter: Sendable {
  struct Message: Sendable, Hashable {
    let reason: String
    let action: String
    let note: String
  }

  private static let queueLength = 16
  /// Events are rare: an old failure says little about the next one.
  private static let faultSpan = Duration.seconds(3600)
  /// The namespace of the DaemonSet, if neither the service account nor a kubeconfig names one.
  private static let namespace = "kube-system"

  private struct State {
    var limit = EventLimit()
    var queue: [Message] = []
  }

  private let state = Mutex(State())
  private let bell = Bell()
  private let time: TimeSource
  private let logger: Logger

  init(time: TimeSource, logger: Logger) {
    self.time = time
    self.logger = logger
  }

  /// A call that EC2 denied for a missing permission. For `EC2Client`'s observer, which sees every attempt.
  func ec2(_ call: EC2Client.Observation) {
    guard let code = call.error, EC2Error(action: call.action, code: code, status: call.status).isMissingPermission
    else {
      return
    }
    say(
      Message(
        reason: "MissingIAMPermissions", action: "ec2:\(call.action)",
        note: "EC2 denies \(call.action): the node's role lacks ec2:\(call.action); add it to the role's IAM policy"))
  }

  /// Why a pod got no address.
  func noAddress(_ cause: FailureCause) {
    guard let reason = cause.eventReason else { return }
    say(Message(reason: reason, action: "AssignAddress", note: "no address for a pod of this node: \(cause)"))
  }

  private func say(_ message: Message) {
    let isNew = state.withLock { state in
      guard state.queue.count < EventReporter.queueLength,
        state.limit.admits("\(message.reason) \(message.action)", time.now())
      else { return false }
      state.queue.append(message)
      return true
    }
    if isNew { bell.ring() }
  }

  /// Sends queued and new events, until cancelled.
  ///
  /// - Parameters:
  ///   - podName: MY_POD_NAME, the subject.
  ///   - state: records what does not work.
  func run(_ client: KubeClient, podName: String, state: ClusterState) async {
    guard !podName.isEmpty else {
      return logger.notice("MY_POD_NAME is not set; no events will be created")
    }
    var subject: KubeEvent.Subject?
    var streak = FailureStreak()
    while await bell.wait() {
      while let message = self.state.withLock({ $0.queue.isEmpty ? nil : $0.queue.removeFirst() }) {
        do throws(KubeError) {
          let namespace = client.configuration.namespace
          let own = namespace.isEmpty ? EventReporter.namespace : namespace
          if subject == nil {
            subject = KubeEvent.Subject(
              kind: "Pod", metadata: try await client.get(KubePodMetadata.self, podName, in: own).metadata)
          }
          if let subject { try await send(message, about: subject, client) }
          _ = streak.succeeded()
          state.settled("events")
        } catch {
          if subject == nil {
            state.failed("events", error, on: .pods, verbs: "get", for: EventReporter.faultSpan)
          } else {
            state.failed("events", error, on: .events, verbs: "create", for: EventReporter.faultSpan)
          }
          guard streak.failed(), !Task.isCancelled else { continue }
          logger.warning(
            "cannot create an event",
            metadata: ["reason": "\(message.reason)", "error": "\(CauseChain.text(error))"])
        }
      }
    }
  }

  private func send(
    _ message: Message, about subject: KubeEvent.Subject, _ client: KubeClient
  ) async throws(KubeError) {
    let event = KubeEvent(
      subject: subject, isWarning: true, reason: message.reason, action: message.action, note: message.note,
      controller: "aws-node", instance: subject.metadata.name)
    let now = UTCTime.now
    // Unique, and below the limit of 253 bytes for any pod name.
    let name = "\(subject.metadata.name.prefix(200)).\(String(UInt64.random(in: 0...UInt64.max), radix: 16))"
    let time = String(now.text().dropLast()) + "000Z"
    try await client.create(
      .events, in: subject.metadata.namespace, event.json(name: name, time: time))
  }
}

extension FailureCause {
  /// The reason of an event in CamelCase; nil for causes that no operator can fix, or that are reported elsewhere.
  var eventReason: String? {
    switch self {
    case .nodeCordoned: "NodeCordoned"
    case .maxPodsReached: "MaxPodsReached"
    case .eniLimitReached: "ENILimitReached"
    case .enisTakeNoPods: "ENIsTakeNoPods"
    case .endedPodsHoldAddresses: "EndedPodsHoldAddresses"
    case .attachmentLimit: "AttachmentLimitExceeded"
    case .eniNotReady: "ENINotReady"
    case .subnetFull: "SubnetFull"
    case .noFreePrefix: "NoFreePrefix"
    case .throttled: "EC2Throttled"
    case .callFailed: "EC2CallFailed"
    case .onlyCooling: "AddressesInCooldown"
    case .deadline: "NoAddressInTime"
    case .noENIConfig: "NoENIConfig"
    case .provisioningOff: "ProvisioningOff"
    case .tooManyWaiting: "TooManyWaiting"
    case .checkpointNotWritten: "CheckpointNotWritten"
    // Reported as MissingIAMPermissions when the call was denied.
    case .missingPermission: nil
    case .notReady, .shuttingDown, .cancelled, .badRequest: nil
    }
  }
}

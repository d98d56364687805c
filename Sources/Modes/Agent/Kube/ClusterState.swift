// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// What the API server has told of this node by now. Written by `ClusterLink`, read by whoever follows it.
final class ClusterState: Sendable {
  struct Content: Sendable {
    /// The node as it was last seen; nil until then.
    var node: KubeNode?
    /// The name of the node's ENIConfig; nil until the node was seen.
    var eniConfigName: String?
    /// The ENIConfig of that name, as far as one was ever read.
    var eniConfig: ENIConfig?
    /// Why the ENIConfig in force is not the one that is meant; empty where it is.
    var eniConfigProblem = "the node's ENIConfig has not been read from the API server yet"
    /// Whether the API server has said what it has of it, be it that there is none.
    var isENIConfigAnswered = false
    /// Whether an API server is named at all.
    var isExpected = true
  }

  /// A question that the API server does not answer now.
  struct Fault: Sendable, Hashable {
    let error: String
    /// What RBAC does not allow; empty where the cause is another.
    let permission: String
    let isEssential: Bool
    let since: ContinuousClock.Instant
    /// When it is told no more, unless it happens again: of what is asked now and then, success comes as rarely.
    let expires: ContinuousClock.Instant?
  }

  private struct State {
    var content = Content()
    var server = ""
    var faults: [String: Fault] = [:]
    var listeners: [Int: AsyncStream<Void>.Continuation] = [:]
    var lastListener = 0
  }

  private let state = Mutex(State())

  var content: Content { state.withLock { $0.content } }

  /// Changes what is known and tells everybody who listens.
  func update(_ change: (inout Content) -> Void) {
    let listeners = state.withLock { state in
      change(&state.content)
      return Array(state.listeners.values)
    }
    for listener in listeners { listener.yield() }
  }

  /// One element at once, and one for each change or several; ends with its task.
  func changes() -> AsyncStream<Void> {
    AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
      let number = state.withLock { state in
        state.lastListener += 1
        state.listeners[state.lastListener] = continuation
        return state.lastListener
      }
      continuation.onTermination = { [weak self] _ in
        _ = self?.state.withLock { $0.listeners.removeValue(forKey: number) }
      }
      continuation.yield()
    }
  }

  /// Waits until something holds, at most so long.
  ///
  /// - Returns: whether it holds.
  func wait(
    within limit: Duration, time: TimeSource, until isEnough: @escaping @Sendable (Content) -> Bool
  ) async -> Bool {
    await withTaskGroup(of: Bool.self) { group in
      group.addTask {
        for await _ in self.changes() where isEnough(self.content) { return true }
        return false
      }
      group.addTask {
        // Cancelled: the other one has ended.
        try? await time.sleep(limit)
        return false
      }
      let first = await group.next() ?? false
      group.cancelAll()
      return first
    }
  }
}

extension ClusterState {
  /// The name of a node's ENIConfig. Source: contract of amazon-vpc-cni-k8s v1.23, node objects.
  ///
  /// - Parameters:
  ///   - annotationKey: ENI_CONFIG_ANNOTATION_DEF.
  ///   - labelKey: ENI_CONFIG_LABEL_DEF.
  static func eniConfigName(of node: KubeMetadata, annotationKey: String, labelKey: String) -> String {
    let candidates = [
      node.labels["vpc.amazonaws.com/externalEniConfig"], node.annotations[annotationKey], node.labels[labelKey],
    ]
    return candidates.compactMap { $0 }.first { !$0.isEmpty } ?? "default"
  }
}

// MARK: what goes wrong

extension ClusterState {
  /// Subjects that are told of at most: one for each kind of object, and every ENIConfig that a node names in turn.
  private static let faultLimit = 32

  /// The server that is asked from now on.
  func found(server: String) { state.withLock { $0.server = server } }

  /// The question about `subject` has no answer.
  ///
  /// - Parameter verbs: what the agent does with the resource, for a refusal by RBAC.
  /// - Returns: the permission that is missing; empty where the cause is another.
  @discardableResult
  func failed(
    _ subject: String, _ error: KubeError, on resource: KubeResource, verbs: String, isEssential: Bool = false,
    for span: Duration? = nil
  ) -> String {
    let permission = error.code == .forbidden ? "\(verbs) \(resource.qualifiedName)" : ""
    failed(subject, because: CauseChain.text(error), permission: permission, isEssential: isEssential, for: span)
    return permission
  }

  /// The same for what is wrong with an answer, or with the question.
  func failed(
    _ subject: String, because error: String, permission: String = "", isEssential: Bool = true,
    for span: Duration? = nil
  ) {
    state.withLock { state in
      guard state.faults[subject] != nil || state.faults.count < ClusterState.faultLimit else { return }
      let since = state.faults[subject]?.since ?? .now
      state.faults[subject] = Fault(
        error: error, permission: permission, isEssential: isEssential, since: since,
        expires: span.map { .now.advanced(by: $0) })
    }
  }

  /// The question has an answer, or is not asked any more.
  func settled(_ subject: String) { state.withLock { _ = $0.faults.removeValue(forKey: subject) } }

  func hasFault(_ subject: String) -> Bool { state.withLock { $0.faults[subject] != nil } }

  /// For `/v1/status`.
  func status(nodeName: String) -> AgentStatus.Cluster {
    let (content, server, faults) = state.withLock { ($0.content, $0.server, $0.faults) }
    var status = AgentStatus.Cluster()
    status.server = server
    status.node = nodeName
    status.isNodeKnown = content.node != nil
    status.podCapacity = content.node?.podCapacity
    status.isCordoned = content.node?.isUnschedulable ?? false
    status.eniConfig = content.eniConfig?.metadata.name
    status.faults = faults.filter { $0.value.expires.map { $0 > .now } ?? true }.map { subject, fault in
      var row = AgentStatus.Cluster.Fault()
      row.subject = subject
      row.error = fault.error
      row.permission = fault.permission
      row.isEssential = fault.isEssential
      row.seconds = fault.since.duration(to: .now).wholeSeconds
      return row
    }.sorted { ($0.isEssential ? 0 : 1, $0.subject) < ($1.isEssential ? 0 : 1, $1.subject) }
    return status
  }
}

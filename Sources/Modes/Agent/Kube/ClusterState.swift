// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// The state of this node from the API server. Written by `ClusterLink`, read by its followers.
final class ClusterState: Sendable {
  struct Content: Sendable {
    /// The node as it was last seen; nil until then.
    var node: KubeNode?
    /// The name of the node's ENIConfig; nil until the node was read.
    var eniConfigName: String?
    /// The ENIConfig of that name, if one was ever read.
    var eniConfig: ENIConfig?
    /// Why the configured ENIConfig is not in effect; empty if it is.
    var eniConfigProblem = "the node's ENIConfig has not been read from the API server yet"
    /// Whether the API server has answered, even if there is no such ENIConfig.
    var isENIConfigAnswered = false
    /// Whether an API server is configured.
    var isExpected = true
  }

  /// A request that the API server currently fails.
  struct Fault: Sendable, Hashable {
    let error: String
    /// The permission that RBAC denies; empty for other causes.
    let permission: String
    let isEssential: Bool
    let since: ContinuousClock.Instant
    /// When the fault expires unless it recurs: rare requests also succeed rarely.
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

  /// Updates the state and notifies all listeners.
  func update(_ change: (inout Content) -> Void) {
    let listeners = state.withLock { state in
      change(&state.content)
      return Array(state.listeners.values)
    }
    for listener in listeners { listener.yield() }
  }

  /// Yields one element at once, then one for one or more changes; ends with its task.
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
  /// The maximum number of subjects: one per kind of object, and every ENIConfig that the node names in turn.
  private static let faultLimit = 32

  /// The server in use from now on.
  func found(server: String) { state.withLock { $0.server = server } }

  /// Records that the request for `subject` failed.
  ///
  /// - Parameter verbs: the verbs that the agent needs on the resource, for RBAC errors.
  /// - Returns: the missing permission; empty for other causes.
  @discardableResult
  func failed(
    _ subject: String, _ error: KubeError, on resource: KubeResource, verbs: String, isEssential: Bool = false,
    for span: Duration? = nil
  ) -> String {
    let permission = error.code == .forbidden ? "\(verbs) \(resource.qualifiedName)" : ""
    failed(subject, because: CauseChain.text(error), permission: permission, isEssential: isEssential, for: span)
    return permission
  }

  /// The same for an invalid answer or request.
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

  /// Records that the request succeeded, or is no longer made.
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

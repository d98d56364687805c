// SPDX-License-Identifier: Apache-2.0

internal import Logging
internal import Synchronization
internal import VPCKube
internal import VPCModel
internal import VPCTransport

/// Writes pods' addresses into their annotation, in parallel with ADD and DEL and never delaying them.
final class PodAnnotator: Sendable {
  /// Concurrent requests.
  private static let atOnce = 4

  private let plan = Mutex(PodAnnotations())
  private let bell = Bell()
  private let time: TimeSource
  private let logger: Logger

  init(time: TimeSource, logger: Logger) {
    self.time = time
    self.logger = logger
  }

  func assigned(_ pod: PodName, _ address: IPAddress) { change { $0.assigned(pod, address.description) } }
  func released(_ pod: PodName, _ address: IPAddress) { change { $0.released(pod, address.description) } }

  private func change(_ body: (inout PodAnnotations) -> Void) {
    plan.withLock { body(&$0) }
    bell.ring()
  }

  /// Watches the node's own pods and writes until cancelled.
  ///
  /// - Parameter state: records what does not work.
  func run(_ client: KubeClient, nodeName: String, state: ClusterState) async {
    guard !nodeName.isEmpty else { return }
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await self.watch(client, nodeName, state) }
      group.addTask { await self.write(client, state) }
    }
  }

  private static let reading = "pods of this node"
  private static let writing = "annotations of pods"
  /// Longer than any pause between two tries; if the pod is gone, there is no further try.
  private static let faultSpan = Duration.seconds(600)

  private func watch(_ client: KubeClient, _ nodeName: String, _ state: ClusterState) async {
    await KubeWatch(KubePodMetadata.self, client: client, .onNode(nodeName)).run { [self] event in
      switch event {
      case .listed(let pods): change { $0.listed(pods) }
      case .changed(let pod): change { $0.changed(pod) }
      case .deleted(let pod): change { $0.deleted(pod) }
      case .lost(let error, let wait):
        let permission = state.failed(PodAnnotator.reading, error, on: .pods, verbs: "list and watch")
        logger.warning(
          "cannot list this node's pods from the API server; pod annotations are delayed",
          metadata: [
            "error": "\(CauseChain.text(error))", "again in": "\(wait.brief)", "permission": "\(permission)",
          ])
      case .recovered:
        state.settled(PodAnnotator.reading)
        logger.notice("this node's pods can be listed again")
      case .unreadable(let text): logger.warning("cannot parse a Pod object", metadata: ["error": "\(text)"])
      }
    }
  }

  /// Why the plan is evaluated again.
  private enum Step {
    /// The pool or the API server said something.
    case told
    /// A pod skipped after a failure is due.
    case due
    case written
    /// - Parameter wait: how long the pod is skipped; nil if nothing is to be written any more.
    case failed(wait: Duration?, isConflict: Bool)
  }

  /// The task always listens to the bell, and each failure has its own timer: a pod whose write keeps failing does not
  /// delay others, and the last failure is retried even if nothing else changes. A timer ends within a minute.
  private func write(_ client: KubeClient, _ state: ClusterState) async {
    var streak = FailureStreak()
    await withTaskGroup(of: Step.self) { group in
      group.addTask { await self.hear() }
      while let step = await group.next(), !Task.isCancelled {
        switch step {
        case .told: group.addTask { await self.hear() }
        case .due: break
        case .written:
          state.settled(PodAnnotator.writing)
          if streak.succeeded() { logger.notice("pod annotations can be written again") }
        case .failed(let wait, let isConflict):
          // On a conflict, the pod changed and the watch delivers it. A deleted pod is no failure either.
          if wait != nil, !isConflict, streak.failed() {
            logger.warning("cannot write a pod annotation; will retry")
          }
          guard let wait else { break }
          group.addTask {
            // Cancelled: the step is not used.
            try? await self.time.sleep(wait)
            return .due
          }
        }
        for write in plan.withLock({ $0.next(time.now(), atOnce: PodAnnotator.atOnce) }) {
          group.addTask { await self.carryOut(write, client, state) }
        }
      }
      group.cancelAll()
    }
  }

  private func hear() async -> Step {
    _ = await bell.wait()
    return .told
  }

  private func carryOut(_ write: PodAnnotations.Write, _ client: KubeClient, _ state: ClusterState) async -> Step {
    do throws(KubeError) {
      let patch: JSONValue = ["metadata": ["annotations": [PodAnnotations.key: .string(write.address)]]]
      let pod = try await client.mergePatch(
        KubePodMetadata.self, write.pod.name, in: write.pod.namespace, patch, version: write.version)
      plan.withLock { $0.written(write, pod) }
      return .written
    } catch {
      let wait = plan.withLock { $0.failed(write, isGone: error.code == .notFound, time.now()) }
      if wait != nil, error.code != .conflict {
        state.failed(PodAnnotator.writing, error, on: .pods, verbs: "patch", for: PodAnnotator.faultSpan)
      }
      logger.debug(
        "cannot write a pod annotation", metadata: ["pod": "\(write.pod)", "error": "\(CauseChain.text(error))"])
      return .failed(wait: wait, isConflict: error.code == .conflict)
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

internal import VPCKube
internal import VPCModel

/// Which pods' annotations differ from their addresses. A value: it receives the state of the pool and the API server,
/// and returns the writes.
///
/// An address is written if the pod's annotation differs; after the pod's DEL it is cleared if the annotation still
/// shows it. A pod that the watch has not seen yet is written later.
struct PodAnnotations: Sendable {
  static let key = "vpc.amazonaws.com/pod-ips"

  /// One annotation to write.
  struct Write: Sendable, Hashable {
    let pod: PodName
    /// Empty clears.
    let address: String
    /// The resource version for a clear: a newer pod of the same name is not touched.
    let version: String?
  }

  private struct Shown {
    var annotation: String
    var version: String
  }

  /// By pod: the wanted annotation. After a release it is empty, if the annotation still shows that address.
  private var wanted: [PodName: String] = [:]
  private var released: [PodName: String] = [:]
  private var shown: [PodName: Shown] = [:]
  /// With the version of the pod that the write began from.
  private var underWay: [PodName: String] = [:]
  /// Consecutive failures, and until when the pod is skipped.
  private var waiting: [PodName: (failures: Int, until: ContinuousClock.Instant)] = [:]

  // MARK: what the pool says

  mutating func assigned(_ pod: PodName, _ address: String) {
    wanted[pod] = address
    released[pod] = nil
    waiting[pod] = nil
  }

  /// The DEL of an earlier sandbox may come after the ADD of the next.
  mutating func released(_ pod: PodName, _ address: String) {
    guard wanted[pod] == address else { return }
    wanted[pod] = nil
    // If the pod is unknown, it is gone or the watch lags: there is nothing to clear.
    if shown[pod] != nil { released[pod] = address }
    waiting[pod] = nil
  }

  // MARK: what the API server says

  mutating func listed(_ pods: [KubePodMetadata]) {
    shown = [:]
    for pod in pods { changed(pod) }
    released = released.filter { shown[$0.key] != nil }
    waiting = waiting.filter { shown[$0.key] != nil }
  }

  mutating func changed(_ pod: KubePodMetadata) {
    shown[PodName(pod.metadata)] = Shown(
      annotation: pod.metadata.annotations[PodAnnotations.key] ?? "", version: pod.metadata.resourceVersion)
  }

  mutating func deleted(_ pod: KubePodMetadata) {
    forget(PodName(pod.metadata))
  }

  private mutating func forget(_ pod: PodName) {
    shown[pod] = nil
    released[pod] = nil
    waiting[pod] = nil
  }

  // MARK: what to do

  /// The writes that may start now, limited by those in progress; they count as started.
  mutating func next(_ now: ContinuousClock.Instant, atOnce limit: Int) -> [Write] {
    var writes: [Write] = []
    for (pod, shown) in shown where underWay.count < limit {
      guard underWay[pod] == nil, waiting[pod].map({ $0.until <= now }) ?? true,
        let write = write(pod, shown)
      else { continue }
      underWay[pod] = shown.version
      writes.append(write)
    }
    return writes
  }

  private func write(_ pod: PodName, _ shown: Shown) -> Write? {
    if let address = wanted[pod] {
      return shown.annotation == address ? nil : Write(pod: pod, address: address, version: nil)
    }
    guard let address = released[pod], shown.annotation == address else { return nil }
    return Write(pod: pod, address: "", version: shown.version)
  }

  /// - Parameter pod: the pod as returned by the write. If the watch has delivered a version since the write began,
  ///   that one is kept: it is the same or newer, and a clear with an older version would never be accepted.
  mutating func written(_ write: Write, _ pod: KubePodMetadata) {
    let begunFrom = underWay.removeValue(forKey: write.pod)
    waiting[write.pod] = nil
    if let shown = shown[write.pod], shown.version == begunFrom { changed(pod) }
    if write.address.isEmpty { released[write.pod] = nil }
  }

  /// - Parameter isGone: the pod no longer exists: nothing is to be written.
  /// - Returns: how long the pod is skipped; nil if nothing is to be written.
  mutating func failed(_ write: Write, isGone: Bool, _ now: ContinuousClock.Instant) -> Duration? {
    underWay[write.pod] = nil
    guard !isGone, shown[write.pod] != nil else {
      forget(write.pod)
      return nil
    }
    let failures = (waiting[write.pod]?.failures ?? 0) + 1
    let wait = min(.seconds(1) * (1 << min(failures - 1, 6)), .seconds(60))
    waiting[write.pod] = (failures, now.advanced(by: wait))
    return wait
  }
}

extension PodName {
  init(_ metadata: KubeMetadata) { self.init(namespace: metadata.namespace, name: metadata.name) }
}

// SPDX-License-Identifier: Apache-2.0

internal import Synchronization
internal import VPCLinux
internal import VPCModel
internal import VPCSystem

/// One collection: workers produce parts, the calling thread writes them into the archive, shows progress and handles
/// signals. Only finished but unwritten parts are in memory.
struct BundleRun {
  /// The total time limit. A healthy node needs a third of it; missing parts are left out.
  static let timeLimit = Duration.seconds(26)
  /// Bytes before compression of all parts together, and of the archive.
  static let contentLimit = 512 << 20
  static let archiveLimit = 64 << 20

  let parts: [BundlePart]
  let collector: PartCollector
  let signals: SignalQueue
  let workers: Int
  /// Parts done, of all.
  let progress: (Int, Int) -> Void

  /// - Parameter folder: the one folder of the archive.
  /// - Returns: the records; nil when a signal came, whose number `signal` then has.
  /// - Throws: errors of `archive`, which is then unusable.
  func fill(_ archive: inout ArchiveStream, folder: String, now: Int64, signal: inout Int32?) throws -> [PartRecord]? {
    let queue = PartQueue(parts, room: BundleRun.contentLimit)
    let collector = collector
    var started = 0
    for _ in 0..<workers {
      let worker = try? BackgroundResult<Void>.ofThread { queue.work(collector) }
      if worker != nil { started += 1 }
    }
    // If no thread can be created: one part after the other, by this thread.
    if started == 0 { queue.work(collector) }
    // Slightly more than the parts' limit: a part that hangs in the kernel is not waited for.
    let end = collector.end.advanced(by: .seconds(2))
    var records: [PartRecord] = []
    do {
      while records.count < parts.count {
        if let number = signals.next(within: .milliseconds(queue.hasNews ? 0 : 40)) {
          signal = number
          stop(queue)
          return nil
        }
        for result in queue.takeNews() {
          var record = result.record
          if let content = result.content {
            if archive.size + content.bytes.count > BundleRun.archiveLimit {
              record.outcome = .leftOut
              record.reason = "the archive has reached its \(BundleRun.archiveLimit >> 20) MiB"
              record.size = 0
            } else {
              try archive.add(content, name: "\(folder)/\(record.path)", modified: now)
            }
          }
          records.append(record)
          progress(records.count, parts.count)
        }
        if ContinuousClock.now > end { break }
      }
    } catch {
      stop(queue)
      throw error
    }
    for part in queue.missing(records) {
      records.append(
        PartRecord(
          path: part.path, origin: part.origin, outcome: .failed, reason: "timed out", size: 0,
          seconds: BundleRun.timeLimit.inSeconds, redacted: [:]))
    }
    return records
  }

  /// Stops running programs, and waits for them.
  private func stop(_ queue: PartQueue) {
    collector.interruption.raise()
    let end = ContinuousClock.now.advanced(by: .seconds(3))
    while queue.working > 0, ContinuousClock.now < end { _ = signals.next(within: .milliseconds(20)) }
  }
}

/// Parts to make and parts made, between the threads.
private final class PartQueue: Sendable {
  private struct State {
    var next = 0
    var room: Int
    var working = 0
    var news: [PartCollector.Result] = []
  }

  private let parts: [BundlePart]
  private let state: Mutex<State>

  init(_ parts: [BundlePart], room: Int) {
    self.parts = parts
    state = Mutex(State(room: room))
  }

  var hasNews: Bool { state.withLock { !$0.news.isEmpty } }
  var working: Int { state.withLock { $0.working } }

  func takeNews() -> [PartCollector.Result] {
    state.withLock { state in
      defer { state.news = [] }
      return state.news
    }
  }

  func missing(_ records: [PartRecord]) -> [BundlePart] {
    let seen = Set(records.map(\.path))
    return parts.filter { !seen.contains($0.path) }
  }

  /// Takes one part after the other until there are none.
  func work(_ collector: PartCollector) {
    while true {
      let task = state.withLock { state -> (part: BundlePart, room: Int)? in
        guard state.next < parts.count, !collector.interruption.isRaised else { return nil }
        state.next += 1
        state.working += 1
        // Reserves its maximum, so that all parts together keep the limit.
        let part = parts[state.next - 1]
        let room = max(min(part.limit, state.room), 0)
        state.room -= room
        return (part, room)
      }
      guard let task else { return }
      let result = collector.collect(task.part, room: task.room)
      state.withLock { state in
        state.working -= 1
        state.room += task.room - result.record.size
        state.news.append(result)
      }
    }
  }
}

// SPDX-License-Identifier: Apache-2.0

package import VPCModel
package import VPCSystem

/// Takes whole lines of a log.
package protocol LineSink: Sendable {
  /// - Parameters:
  ///   - line: including its newline.
  ///   - isUrgent: a warning or worse.
  func write(_ line: [UInt8], at time: UTCTime, isUrgent: Bool)
}

/// Writes a log on its own thread, so that neither the pool nor the event loop waits for a slow disk.
///
/// The queue is bounded. Lines are dropped and counted when it is full; one line reports the count as soon as the disk
/// catches up. The last quarter of the queue is for urgent lines. A process calls `flush` before it exits.
///
/// Only for the agent. A plugin process serves one pod and writes its few lines directly.
package final class LogThread: LineSink {
  /// The maximum of queued bytes, including the current batch.
  package struct Limits: Sendable {
    package var lines = 8_192
    package var bytes = 4 << 20

    package init() {}
  }

  private let queue: Queue

  /// Starts the thread.
  ///
  /// - Throws: `SystemCallError` if no thread can be created.
  package init(_ writer: any LineSink, limits: Limits = Limits()) throws(SystemCallError) {
    queue = Queue(writer, limits)
    try SystemThread.start(name: "log") { [queue] in queue.run() }
  }

  deinit { queue.close() }

  /// Returns at once. A full queue drops the line.
  package func write(_ line: [UInt8], at time: UTCTime, isUrgent: Bool) {
    queue.append(Queue.Line(bytes: line, time: time, isUrgent: isUrgent))
  }

  /// Waits until all earlier lines are written.
  ///
  /// - Returns: false if the time ran out first.
  @discardableResult
  package func flush(within limit: Duration) -> Bool { queue.waitUntilEmpty(within: limit) }

  /// Lines that were dropped since the start.
  package var dropped: Int { queue.droppedInAll }
}

extension LogThread {
  /// State shared by the thread and its owner. The thread retains it, so that the owner can be released.
  // SAFETY: all variables are touched with `lock` held alone.
  private final class Queue: @unchecked Sendable {
    struct Line {
      let bytes: [UInt8]
      let time: UTCTime
      let isUrgent: Bool
    }

    private let writer: any LineSink
    private let limits: Limits
    private let lock = ThreadLock()
    private let filled: ThreadCondition
    private let emptied: ThreadCondition
    private var waiting: [Line] = []
    /// Of lines that wait and of those that are being written.
    private var count = 0
    private var bytes = 0
    /// Dropped lines that no line has reported yet.
    private var dropped = 0
    /// The thread is writing.
    private var isWriting = false
    private var isClosed = false
    private(set) var total = 0

    init(_ writer: any LineSink, _ limits: Limits) {
      self.writer = writer
      self.limits = limits
      filled = ThreadCondition(lock)
      emptied = ThreadCondition(lock)
    }

    var droppedInAll: Int { lock.held { total } }

    func append(_ line: Line) {
      lock.held {
        let room = line.isUrgent ? 4 : 3
        guard count < limits.lines * room / 4, bytes + line.bytes.count <= limits.bytes * room / 4 else {
          dropped += 1
          total += 1
          filled.signal()
          return
        }
        waiting.append(line)
        count += 1
        bytes += line.bytes.count
        filled.signal()
      }
    }

    func close() {
      lock.held {
        isClosed = true
        filled.signal()
      }
    }

    func waitUntilEmpty(within limit: Duration) -> Bool {
      lock.held { emptied.wait(within: limit) { isIdle } }
    }

    private var isIdle: Bool { count == 0 && dropped == 0 && !isWriting }

    func run() {
      while let (batch, dropped) = next() {
        for line in batch { writer.write(line.bytes, at: line.time, isUrgent: line.isUrgent) }
        if dropped > 0 { writer.write(Queue.loss(of: dropped), at: UTCTime.now, isUrgent: true) }
        lock.held {
          count -= batch.count
          bytes -= batch.reduce(0) { $0 + $1.bytes.count }
          isWriting = false
          if isIdle { emptied.broadcast() }
        }
      }
    }

    /// Waits for lines; nil when the owner is gone and all is written.
    private func next() -> (batch: [Line], dropped: Int)? {
      lock.held {
        // Lines may be lost while the last batch is written, and none may follow: that is reported, too.
        filled.wait { !waiting.isEmpty || dropped > 0 || isClosed }
        guard !waiting.isEmpty || dropped > 0 else { return nil }
        defer {
          waiting = []
          dropped = 0
          isWriting = true
        }
        return (waiting, dropped)
      }
    }

    private static func loss(of count: Int) -> [UInt8] {
      let record: JSONValue = [
        "level": "warn", "ts": .string(UTCTime.now.text()), "caller": .string("\(#fileID):\(#line)"),
        "msg": "log lines dropped; the log's disk is too slow", "count": .string("\(count)"),
      ]
      return record.bytes + [0x0a]
    }
  }
}

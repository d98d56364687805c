// SPDX-License-Identifier: Apache-2.0

import Glibc
package import VPCModel

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
  /// - Throws: `ThreadFailure` if no thread can be created.
  package init(_ writer: any LineSink, limits: Limits = Limits()) throws(ThreadFailure) {
    queue = Queue(writer, limits)
    try queue.start()
  }

  deinit { queue.close() }

  package struct ThreadFailure: Error, Sendable {
    package let errno: Int32
  }

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
  // SAFETY: all variables are touched with `mutex` held alone; the three pointers are set once and freed when neither the
  // owner nor the thread refers to the queue any more.
  private final class Queue: @unchecked Sendable {
    struct Line {
      let bytes: [UInt8]
      let time: UTCTime
      let isUrgent: Bool
    }

    private let writer: any LineSink
    private let limits: Limits
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let filled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let emptied = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
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
      pthread_mutex_init(mutex, nil)
      var attributes = pthread_condattr_t()
      pthread_condattr_init(&attributes)
      pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
      pthread_cond_init(filled, nil)
      pthread_cond_init(emptied, &attributes)
      pthread_condattr_destroy(&attributes)
    }

    deinit {
      pthread_cond_destroy(filled)
      pthread_cond_destroy(emptied)
      pthread_mutex_destroy(mutex)
      filled.deallocate()
      emptied.deallocate()
      mutex.deallocate()
    }

    private func locked<Value>(_ body: () -> Value) -> Value {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      return body()
    }

    var droppedInAll: Int { locked { total } }

    func start() throws(ThreadFailure) {
      var thread = pthread_t()
      let context = Unmanaged.passRetained(self)
      let code = pthread_create(
        &thread, nil,
        { context in
          guard let context else { return nil }
          // SAFETY: takes over the reference that `start` retained for this thread.
          Unmanaged<Queue>.fromOpaque(context).takeRetainedValue().run()
          return nil
        }, context.toOpaque())
      guard code == 0 else {
        context.release()
        throw ThreadFailure(errno: code)
      }
      pthread_detach(thread)
    }

    func append(_ line: Line) {
      locked {
        let room = line.isUrgent ? 4 : 3
        guard count < limits.lines * room / 4, bytes + line.bytes.count <= limits.bytes * room / 4 else {
          dropped += 1
          total += 1
          pthread_cond_signal(filled)
          return
        }
        waiting.append(line)
        count += 1
        bytes += line.bytes.count
        pthread_cond_signal(filled)
      }
    }

    func close() {
      locked {
        isClosed = true
        pthread_cond_signal(filled)
      }
    }

    func waitUntilEmpty(within limit: Duration) -> Bool {
      var end = timespec()
      clock_gettime(CLOCK_MONOTONIC, &end)
      let (seconds, attoseconds) = max(limit, .zero).components
      end.tv_sec += Int(seconds)
      end.tv_nsec += Int(attoseconds / 1_000_000_000)
      if end.tv_nsec >= 1_000_000_000 { (end.tv_sec, end.tv_nsec) = (end.tv_sec + 1, end.tv_nsec - 1_000_000_000) }
      return locked {
        while !isIdle { if pthread_cond_timedwait(emptied, mutex, &end) == ETIMEDOUT { break } }
        return isIdle
      }
    }

    private var isIdle: Bool { count == 0 && dropped == 0 && !isWriting }

    private func run() {
      nameThread()
      while let (batch, dropped) = next() {
        for line in batch { writer.write(line.bytes, at: line.time, isUrgent: line.isUrgent) }
        if dropped > 0 { writer.write(Queue.loss(of: dropped), at: LineWriter.now(), isUrgent: true) }
        locked {
          count -= batch.count
          bytes -= batch.reduce(0) { $0 + $1.bytes.count }
          isWriting = false
          if isIdle { pthread_cond_broadcast(emptied) }
        }
      }
    }

    /// Waits for lines; nil when the owner is gone and all is written.
    private func next() -> (batch: [Line], dropped: Int)? {
      locked {
        // Lines may be lost while the last batch is written, and none may follow: that is reported, too.
        while waiting.isEmpty && dropped == 0 {
          if isClosed { return nil }
          pthread_cond_wait(filled, mutex)
        }
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
        "level": "warn", "ts": .string(LineWriter.now().text()), "caller": .string("\(#fileID):\(#line)"),
        "msg": "log lines dropped; the log's disk is too slow", "count": .string("\(count)"),
      ]
      return record.bytes + [0x0a]
    }

    private func nameThread() {
      let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
      guard file >= 0 else { return }
      _ = LogFile.append(Array("log".utf8), to: file)
      Glibc.close(file)
    }
  }
}

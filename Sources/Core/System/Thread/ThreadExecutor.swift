// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A serial executor with its own thread, for an actor whose methods block: netlink round trips, nftables, processes.
///
/// An actor uses it by keeping it in a property and returning it as `unownedExecutor`. Jobs run one after the other in
/// the order of the runtime. The queue is unbounded: the runtime adds a job for each waiting call, so the actor's
/// callers bound it. The thread starts with the executor and ends when the last actor (and job) releases it; there is
/// no manual stop, and no job can be lost.
package final class ThreadExecutor: SerialExecutor {
  private let queue: Queue

  /// Starts the thread.
  ///
  /// - Parameter name: what `ps -T` shows; the kernel keeps 15 bytes.
  /// - Throws: `SystemCallError` if no thread can be created.
  package init(name: String) throws {
    queue = Queue()
    try SystemThread.start(name: name) { [queue] in queue.run() }
  }

  deinit { queue.close() }

  /// Adds a job for the thread; called by the runtime.
  package func enqueue(_ job: consuming ExecutorJob) {
    queue.append(Queue.Entry(job: UnownedJob(job), executor: self))
  }

  /// For the actor's `unownedExecutor`.
  package func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

  /// Traps unless it runs on this executor's thread; used by `assumeIsolated`.
  package func checkIsolated() {
    precondition(queue.isCurrentThread, "not on the executor's thread")
  }
}

extension ThreadExecutor {
  /// State shared by the thread and the executor. The thread retains it instead of the executor, so that the executor
  /// can be released.
  // SAFETY: `entries`, `isClosed` and `thread` are touched with `lock` held alone.
  private final class Queue: @unchecked Sendable {
    /// A job retains its executor until it has run: the job itself can release the last actor.
    struct Entry {
      let job: UnownedJob
      let executor: ThreadExecutor
    }

    private let lock = ThreadLock()
    private let change: ThreadCondition
    private var entries: [Entry] = []
    private var isClosed = false
    private var thread: pthread_t?

    init() { change = ThreadCondition(lock) }

    var isCurrentThread: Bool {
      guard let thread = lock.held({ thread }) else { return false }
      return pthread_equal(thread, pthread_self()) != 0
    }

    func append(_ entry: Entry) {
      lock.held {
        entries.append(entry)
        change.signal()
      }
    }

    func close() {
      lock.held {
        isClosed = true
        change.signal()
      }
    }

    func run() {
      lock.held { thread = pthread_self() }
      while let batch = next() {
        for entry in batch { entry.job.runSynchronously(on: entry.executor.asUnownedSerialExecutor()) }
      }
    }

    /// Waits for jobs; nil when the executor is gone.
    private func next() -> [Entry]? {
      lock.held {
        change.wait { !entries.isEmpty || isClosed }
        defer { entries = [] }
        return entries.isEmpty ? nil : entries
      }
    }
  }
}

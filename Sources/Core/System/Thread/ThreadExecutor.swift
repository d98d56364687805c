// SPDX-License-Identifier: Apache-2.0

internal import CProcess
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
    try queue.start(name: name)
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
  // SAFETY: `entries`, `isClosed` and `thread` are touched with `mutex` held alone; the two pointers are set once and
  // freed when neither the executor nor the thread refers to the queue any more.
  private final class Queue: @unchecked Sendable {
    /// A job retains its executor until it has run: the job itself can release the last actor.
    struct Entry {
      let job: UnownedJob
      let executor: ThreadExecutor
    }

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var entries: [Entry] = []
    private var isClosed = false
    private var thread: pthread_t?

    init() {
      pthread_mutex_init(mutex, nil)
      pthread_cond_init(condition, nil)
    }

    deinit {
      pthread_cond_destroy(condition)
      pthread_mutex_destroy(mutex)
      condition.deallocate()
      mutex.deallocate()
    }

    var isCurrentThread: Bool {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      guard let thread else { return false }
      return pthread_equal(thread, pthread_self()) != 0
    }

    func start(name: String) throws {
      var created = pthread_t()
      let context = Unmanaged.passRetained(self)
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      let code = pthread_create(
        &created, nil,
        { context in
          guard let context else { return nil }
          // SAFETY: takes over the reference that `start` retained for this thread.
          Unmanaged<Queue>.fromOpaque(context).takeRetainedValue().run()
          return nil
        }, context.toOpaque())
      guard code == 0 else {
        context.release()
        throw SystemCallError(errno: code, call: "make a thread")
      }
      pthread_detach(created)
      thread = created
      cprocess_name_thread(created, String(decoding: name.utf8.prefix(15), as: UTF8.self))
    }

    func append(_ entry: Entry) {
      pthread_mutex_lock(mutex)
      entries.append(entry)
      pthread_cond_signal(condition)
      pthread_mutex_unlock(mutex)
    }

    func close() {
      pthread_mutex_lock(mutex)
      isClosed = true
      pthread_cond_signal(condition)
      pthread_mutex_unlock(mutex)
    }

    private func run() {
      while let batch = next() {
        for entry in batch { entry.job.runSynchronously(on: entry.executor.asUnownedSerialExecutor()) }
      }
    }

    /// Waits for jobs; nil when the executor is gone.
    private func next() -> [Entry]? {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      while entries.isEmpty {
        if isClosed { return nil }
        pthread_cond_wait(condition, mutex)
      }
      defer { entries = [] }
      return entries
    }
  }
}

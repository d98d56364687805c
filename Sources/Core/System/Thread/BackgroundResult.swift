// SPDX-License-Identifier: Apache-2.0
// struct timespec counts as CProcess's, whose headers include time.h too.
internal import CProcess
internal import Glibc

/// The result of background work, with a time limit on the wait.
///
/// For tools that must finish in time even if something hangs: a hanging thread is abandoned and ends with the process.
package final class BackgroundResult<Value: Sendable>: Sendable {
  // SAFETY: `value` is touched with `mutex` held alone; both pointers are set once and freed with the last reference.
  private final class State: @unchecked Sendable {
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    var value: Value?

    init() {
      pthread_mutex_init(mutex, nil)
      var attributes = pthread_condattr_t()
      pthread_condattr_init(&attributes)
      pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
      pthread_cond_init(condition, &attributes)
      pthread_condattr_destroy(&attributes)
    }

    deinit {
      pthread_cond_destroy(condition)
      pthread_mutex_destroy(mutex)
      condition.deallocate()
      mutex.deallocate()
    }

    func set(_ new: Value) {
      pthread_mutex_lock(mutex)
      value = new
      pthread_cond_broadcast(condition)
      pthread_mutex_unlock(mutex)
    }

    func get(within limit: Duration) -> Value? {
      var end = timespec()
      clock_gettime(CLOCK_MONOTONIC, &end)
      let (seconds, attoseconds) = max(limit, .zero).components
      end.tv_sec += Int(seconds)
      end.tv_nsec += Int(attoseconds / 1_000_000_000)
      if end.tv_nsec >= 1_000_000_000 { (end.tv_sec, end.tv_nsec) = (end.tv_sec + 1, end.tv_nsec - 1_000_000_000) }
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      while value == nil { if pthread_cond_timedwait(condition, mutex, &end) == ETIMEDOUT { break } }
      return value
    }
  }

  private let state = State()

  private init() {}

  /// Runs blocking work on a new thread.
  ///
  /// - Throws: `SystemCallError` if no thread can be created.
  package static func ofThread(_ body: @escaping @Sendable () -> Value) throws -> BackgroundResult<Value> {
    let result = BackgroundResult()
    let state = result.state
    let work = Work { state.set(body()) }
    var thread = pthread_t()
    let context = Unmanaged.passRetained(work)
    let code = pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        // SAFETY: takes over the reference that was retained for this thread.
        Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body()
        return nil
      }, context.toOpaque())
    guard code == 0 else {
      context.release()
      throw SystemCallError(errno: code, call: "make a thread")
    }
    pthread_detach(thread)
    return result
  }

  /// Runs work that suspends.
  package static func ofTask(_ body: @escaping @Sendable () async -> Value) -> BackgroundResult<Value> {
    let result = BackgroundResult()
    let state = result.state
    Task { state.set(await body()) }
    return result
  }

  /// Blocks until the result is available; nil when the limit has passed. Not for the cooperative pool.
  package func wait(within limit: Duration) -> Value? { state.get(within: limit) }
}

/// A class without parameters, which a C pointer can stand for.
private final class Work {
  let body: () -> Void
  init(_ body: @escaping () -> Void) { self.body = body }
}

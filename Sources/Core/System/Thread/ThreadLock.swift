// SPDX-License-Identifier: Apache-2.0
// struct timespec counts as CProcess's, whose headers include time.h too.
internal import CProcess
internal import Glibc
internal import VPCModel

/// A mutex for what threads wait for with a `ThreadCondition`. Where nobody waits, `Mutex` serves.
// SAFETY: the pointer is set once and freed with the last reference; the system guards what it points to.
package final class ThreadLock: @unchecked Sendable {
  fileprivate let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

  package init() { pthread_mutex_init(mutex, nil) }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  package func held<Value>(_ body: () -> Value) -> Value {
    pthread_mutex_lock(mutex)
    defer { pthread_mutex_unlock(mutex) }
    return body()
  }
}

/// Wakes threads that wait for a change of what a `ThreadLock` guards. Every call needs the lock held.
// SAFETY: as for `ThreadLock`, which it keeps alive.
package final class ThreadCondition: @unchecked Sendable {
  private let lock: ThreadLock
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  package init(_ lock: ThreadLock) {
    self.lock = lock
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    condition.deallocate()
  }

  package func signal() { pthread_cond_signal(condition) }

  package func broadcast() { pthread_cond_broadcast(condition) }

  /// Releases the lock and waits until `isMet`, which is called with the lock held, at first and after each wake-up.
  package func wait(until isMet: () -> Bool) {
    while !isMet() { pthread_cond_wait(condition, lock.mutex) }
  }

  /// The same, at most that long by CLOCK_MONOTONIC.
  ///
  /// - Returns: whether it is met.
  package func wait(within limit: Duration, until isMet: () -> Bool) -> Bool {
    let (end, isForever) = SystemClock.monotonic.nanoseconds.addingReportingOverflow(
      max(limit, .zero).saturatedNanoseconds)
    var time = timespec(nanoseconds: isForever ? .max : end)
    while !isMet() { if pthread_cond_timedwait(condition, lock.mutex, &time) == ETIMEDOUT { return isMet() } }
    return true
  }
}

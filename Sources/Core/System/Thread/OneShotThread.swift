// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import Synchronization

/// Runs a closure on a new thread that ends with it.
///
/// For work that changes its thread (setns, unshare). The caller's thread waits, so keep the work short and do not call
/// it from the cooperative pool if the work can block.
package enum OneShotThread {
  /// Runs `body` on a new thread and waits for its end.
  ///
  /// - Throws: errors of `body`; `SystemCallError` if no thread can be created.
  package static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) throws -> Value {
    let work = Work { try body() }
    var thread = pthread_t()
    let context = Unmanaged.passRetained(work as Runnable)
    let code = pthread_create(
      &thread, nil,
      { context in
        guard let context else { return nil }
        // SAFETY: takes over the reference that `run` retained for this thread.
        Unmanaged<Runnable>.fromOpaque(context).takeRetainedValue().run()
        return nil
      }, context.toOpaque())
    guard code == 0 else {
      context.release()
      throw SystemCallError(errno: code, call: "make a thread")
    }
    pthread_join(thread, nil)
    guard let result = work.result else { throw SystemCallError(errno: ECANCELED, call: "run on a thread") }
    return try result.get()
  }

  /// A class without parameters, which a C pointer can stand for.
  private class Runnable {
    func run() {}
  }

  private final class Work<Value: Sendable>: Runnable {
    private let body: () throws -> Value
    private(set) var result: Result<Value, any Error>?

    init(_ body: @escaping () throws -> Value) { self.body = body }

    override func run() { result = Result { try body() } }
  }
}

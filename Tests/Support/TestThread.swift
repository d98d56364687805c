// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Runs blocking work of tests on threads of its own: the pool's threads belong to the code under test.
package enum TestThread {
  /// Starts a thread that nobody waits for.
  package static func start(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    // SAFETY: the box is retained for the thread, which releases it once.
    let box = Unmanaged.passRetained(Box(body))
    let code = pthread_create(
      &thread, nil,
      { context in
        if let context { Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body() }
        return nil
      }, box.toOpaque())
    precondition(code == 0, "no thread can be made")
    pthread_detach(thread)
  }

  /// Runs the work on a thread and returns its result.
  package static func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      start { continuation.resume(with: Result { try work() }) }
    }
  }

  private final class Box: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
}

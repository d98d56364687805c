// SPDX-License-Identifier: Apache-2.0

import VPCSystem

/// Runs blocking work of tests on threads of its own: the pool's threads belong to the code under test.
package enum TestThread {
  /// Starts a thread that nobody waits for.
  package static func start(_ body: @escaping @Sendable () -> Void) {
    do {
      try SystemThread.start(body)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// Runs the work on a thread and returns its result.
  package static func run<Value: Sendable>(_ work: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
      start { continuation.resume(with: Result { try work() }) }
    }
  }
}

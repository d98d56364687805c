// SPDX-License-Identifier: Apache-2.0

/// The result of background work, with a time limit on the wait.
///
/// For tools that must finish in time even if something hangs: a hanging thread is abandoned and ends with the process.
package final class BackgroundResult<Value: Sendable>: Sendable {
  // SAFETY: `value` is touched with `lock` held alone.
  private final class State: @unchecked Sendable {
    private let lock = ThreadLock()
    private let arrival: ThreadCondition
    private var value: Value?

    init() { arrival = ThreadCondition(lock) }

    func set(_ new: Value) {
      lock.held {
        value = new
        arrival.broadcast()
      }
    }

    func get(within limit: Duration) -> Value? {
      lock.held {
        _ = arrival.wait(within: limit) { value != nil }
        return value
      }
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
    try SystemThread.start { state.set(body()) }
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

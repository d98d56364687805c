// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Time that passes only from one event to the next. One thread; the same events in the same order with every run.
package final class VirtualClock {
  /// Not zero at the start: a clock that counts from boot never is.
  package private(set) var now = PoolInstant(sinceBoot: .seconds(1000))
  private var queue = EventQueue()

  package init() {}

  package func after(_ wait: Duration, _ body: @escaping () -> Void) { at(now + max(wait, .zero), body) }

  package func at(_ instant: PoolInstant, _ body: @escaping () -> Void) {
    queue.push(at: max(instant, now).nanoseconds, body)
  }

  /// Lets the next event happen.
  ///
  /// - Returns: false where none is left.
  package func step() -> Bool {
    guard let entry = queue.pop() else { return false }
    now = PoolInstant(nanoseconds: entry.nanoseconds)
    entry.body()
    return true
  }
}

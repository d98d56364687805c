// SPDX-License-Identifier: Apache-2.0

package import VPCModel

/// Time that advances only from event to event. Single-threaded; every run has the same events in the same order.
package final class VirtualClock {
  /// Not zero at the start, because a clock that counts from boot never is.
  package private(set) var now = PoolInstant(sinceBoot: .seconds(1000))
  private var queue = EventQueue()

  package init() {}

  package func after(_ wait: Duration, _ body: @escaping () -> Void) { at(now + max(wait, .zero), body) }

  package func at(_ instant: PoolInstant, _ body: @escaping () -> Void) {
    queue.push(at: max(instant, now).nanoseconds, body)
  }

  /// Runs the next event.
  ///
  /// - Returns: false if there is none.
  package func step() -> Bool {
    guard let entry = queue.pop() else { return false }
    now = PoolInstant(nanoseconds: entry.nanoseconds)
    entry.body()
    return true
  }
}

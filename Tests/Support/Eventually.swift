// SPDX-License-Identifier: Apache-2.0

/// Checks repeatedly until a condition holds, for at most `limit`. The default is long, because the wait ends early and
/// a machine may be busy.
///
/// - Returns: whether the condition held in time.
package func eventually(within limit: Duration = .seconds(60), _ condition: () async -> Bool) async -> Bool {
  let deadline = ContinuousClock.now.advanced(by: limit)
  while ContinuousClock.now < deadline {
    if await condition() { return true }
    try? await Task.sleep(for: .milliseconds(2))  // pause between looks
  }
  return await condition()
}
